// Send usage events from Go: Celery's message protocol, version 2, as plain JSON and LPUSH.
// The standard library is enough; with a Redis client of your own `call` is its job.
//
//	BROKER_URL=redis://127.0.0.1:6379/0 go run examples/go/produce.go
package main

import (
	"bufio"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

//go:embed message.json
var message string

type event struct {
	TenantID       string `json:"tenant_id"`
	Metric         string `json:"metric"`
	Amount         string `json:"amount"` // a decimal as text: no float ever touches a bill
	At             string `json:"at"`
	IdempotencyKey string `json:"idempotency_key"` // the same key is the same event
}

func main() {
	broker, err := url.Parse(os.Getenv("BROKER_URL"))
	check(err)
	connection, err := net.Dial("tcp", broker.Host)
	check(err)
	defer connection.Close()
	redis := bufio.NewReadWriter(bufio.NewReader(connection), bufio.NewWriter(connection))
	if password, given := broker.User.Password(); given {
		_, err = call(redis, "AUTH", password)
		check(err)
	}

	taskID := uuid()
	events := make([]event, 10)
	for number := range events {
		events[number] = event{
			TenantID:       "acme",
			Metric:         "input_tokens",
			Amount:         strconv.Itoa(100 + number),
			At:             time.Now().UTC().Format(time.RFC3339Nano),
			IdempotencyKey: fmt.Sprintf("go-%s-%d", taskID, number),
		}
	}
	arguments := map[string]any{"events": events}
	options := map[string]any{"callbacks": nil, "errbacks": nil, "chain": nil, "chord": nil}
	body, err := json.Marshal([]any{[]any{}, arguments, options})
	check(err)
	filled := strings.NewReplacer(
		"BODY", base64.StdEncoding.EncodeToString(body),
		"TASK_ID", taskID,
		"DELIVERY_TAG", uuid(),
	).Replace(message)
	_, err = call(redis, "LPUSH", "usage", filled)
	check(err)

	// Keep the events until the answer is there, and send them again otherwise.
	for tries := 0; tries < 300; tries++ {
		stored, err := call(redis, "GET", "celery-task-meta-"+taskID)
		check(err)
		if strings.Contains(stored, `"SUCCESS"`) || strings.Contains(stored, `"FAILURE"`) {
			fmt.Println(stored)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	log.Fatal("no answer after 30 s: send the same events again")
}

// call sends one command to Redis and returns its answer as text; "" if there is none.
func call(redis *bufio.ReadWriter, words ...string) (string, error) {
	fmt.Fprintf(redis, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(redis, "$%d\r\n%s\r\n", len(word), word)
	}
	if err := redis.Flush(); err != nil {
		return "", err
	}
	line, err := redis.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case strings.HasPrefix(line, "-"):
		return "", errors.New(line[1:])
	case strings.HasPrefix(line, "$-"):
		return "", nil
	case strings.HasPrefix(line, "$"):
		size, err := strconv.Atoi(line[1:])
		if err != nil {
			return "", err
		}
		value := make([]byte, size+2)
		_, err = io.ReadFull(redis, value)
		return string(value[:size]), err
	}
	return line[1:], nil
}

// uuid returns a random UUID, version 4.
func uuid() string {
	b := make([]byte, 16)
	_, err := rand.Read(b)
	check(err)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
