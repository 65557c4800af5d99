// A franz-go client for the interop suite.
//
//	interop produce BOOTSTRAP TOPIC             records as JSON lines on standard input
//	interop consume BOOTSTRAP GROUP COUNT TOPIC...  records as JSON lines on standard output
//
// A record is {"topic", "key", "value", "headers": [[name, value], ...]}; bytes are in hexadecimal, null is null.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type record struct {
	Topic   string       `json:"topic"`
	Key     *string      `json:"key"`
	Value   *string      `json:"value"`
	Headers [][2]*string `json:"headers"`
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) >= 3 && args[0] == "produce" {
		return produce(ctx, args[1], args[2])
	}
	if len(args) >= 5 && args[0] == "consume" {
		count, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return consume(ctx, args[1], args[2], count, args[4:])
	}
	return errors.New("usage: interop produce BOOTSTRAP TOPIC | interop consume BOOTSTRAP GROUP COUNT TOPIC...")
}

func produce(ctx context.Context, bootstrap, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var read record
		if err := json.Unmarshal(lines.Bytes(), &read); err != nil {
			return err
		}
		written, err := read.decoded()
		if err != nil {
			return err
		}
		if err := client.ProduceSync(ctx, written).FirstErr(); err != nil {
			return err
		}
	}
	return lines.Err()
}

func consume(ctx context.Context, bootstrap, group string, count int, topics []string) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	out := json.NewEncoder(os.Stdout)
	for seen := 0; seen < count; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("after %d of %d records: %w", seen, count, err)
		}
		var failed error
		fetches.EachRecord(func(read *kgo.Record) {
			seen++
			failed = errors.Join(failed, out.Encode(encoded(read)))
		})
		if failed != nil {
			return failed
		}
	}
	return client.CommitUncommittedOffsets(ctx)
}

func (r record) decoded() (*kgo.Record, error) {
	key, keyErr := fromHex(r.Key)
	value, valueErr := fromHex(r.Value)
	written := &kgo.Record{Key: key, Value: value}
	failed := errors.Join(keyErr, valueErr)
	for _, header := range r.Headers {
		value, err := fromHex(header[1])
		failed = errors.Join(failed, err)
		written.Headers = append(written.Headers, kgo.RecordHeader{Key: *header[0], Value: value})
	}
	return written, failed
}

func encoded(read *kgo.Record) record {
	headers := make([][2]*string, 0, len(read.Headers))
	for _, header := range read.Headers {
		name := header.Key
		headers = append(headers, [2]*string{&name, toHex(header.Value)})
	}
	return record{Topic: read.Topic, Key: toHex(read.Key), Value: toHex(read.Value), Headers: headers}
}

func fromHex(text *string) ([]byte, error) {
	if text == nil {
		return nil, nil
	}
	return hex.DecodeString(*text)
}

func toHex(bytes []byte) *string {
	if bytes == nil {
		return nil
	}
	text := hex.EncodeToString(bytes)
	return &text
}
