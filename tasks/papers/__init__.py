"""What people read: invoices and credit notes as pages, and as rows for accounting."""
