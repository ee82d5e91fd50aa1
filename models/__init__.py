"""The nouns and their law: tables, pure rules, every SQL statement, migrations."""
