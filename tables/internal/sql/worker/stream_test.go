package worker

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// startPair returns the server's end of a connection. job runs at the other end.
func startPair(t *testing.T, job func(*Conn)) *Conn {
	t.Helper()
	serverEnd, workerEnd := net.Pipe()
	t.Cleanup(func() { _ = serverEnd.Close() })
	go func() {
		job(newConn(workerEnd))
		_ = workerEnd.Close()
	}()
	return newConn(serverEnd)
}

// zerosReader returns a reader of count batches of a column of zeros. If endErr is not nil, the reader then fails
// with it.
func zerosReader(count int, endErr error) array.RecordReader {
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	return batches.Reader(schema, func(yield func(arrow.RecordBatch, error) bool) {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		defer b.Release()
		for range count {
			b.Field(0).(*array.Int64Builder).AppendValues(make([]int64, 100_000), nil)
			if !yield(b.NewRecordBatch(), nil) {
				return
			}
		}
		if endErr != nil {
			yield(nil, endErr)
		}
	}, func() {})
}

// readAll reads all batches, either decoded or as encoded messages, and returns the number of bytes read, and whether
// the stream has ended.
func readAll(c *Conn, decoded bool) (n int, ended bool, err error) {
	const limit = 8 << 20
	b, err := c.ReceiveBatches(limit)
	if err != nil {
		return 0, false, err
	}
	defer b.Release()
	if !decoded {
		for m, err := range b.Messages() {
			if err != nil {
				return n, b.Ended(), err
			}
			n += len(m.Body)
		}
		return n, b.Ended(), nil
	}
	for {
		batch, err := b.Next()
		if batch == nil {
			return n, b.Ended(), err
		}
		n += int(batch.NumRows()) * 8
		batch.Release()
	}
}

// TestStream checks that both ways of reading return all batches, or the error of an incomplete stream.
func TestStream(t *testing.T) {
	wantErr := &sqltext.Error{Line: 2, Column: 3, Err: errors.New("that is wrong")}
	for _, decoded := range []bool{true, false} {
		for _, batches := range []int{0, 1, 5} {
			t.Run(fmt.Sprint(decoded, batches), func(t *testing.T) {
				n, ended, err := readAll(startPair(t, func(c *Conn) { _ = c.SendBatches(zerosReader(batches, nil)) }), decoded)
				if n < batches*800_000 || n > batches*800_000+batches*1000 || err != nil || !ended {
					t.Errorf("read = %d bytes, %v, want about %d; ended = %t", n, err, batches*800_000, ended)
				}
				_, ended, err = readAll(startPair(t, func(c *Conn) { _ = c.SendBatches(zerosReader(batches, wantErr)) }), decoded)
				var statementErr *sqltext.Error
				if !errors.As(err, &statementErr) || statementErr.Line != 2 || statementErr.Column != 3 || !strings.Contains(err.Error(), "that is wrong") || !ended {
					t.Errorf("read of a failed stream = %v, want %v; ended = %t", err, wantErr, ended)
				}
			})
		}
	}
}

// TestCauses checks that an error from the other end wraps the same errors that determine its kind.
func TestCauses(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, partd.ErrTooLarge, sqltext.ErrMemory} {
		for _, sent := range []error{fmt.Errorf("x: %w", cause), &sqltext.Error{Line: 2, Err: cause}, fmt.Errorf("%w: %w", cause, partd.ErrTooLarge)} {
			err := startPair(t, func(c *Conn) { _ = c.Reply(nil, sent) }).Receive(nil)
			for _, other := range []error{syscall.ENOSPC, syscall.EDQUOT, partd.ErrTooLarge, sqltext.ErrMemory} {
				if errors.Is(err, other) != errors.Is(sent, other) || err.Error() != sent.Error() {
					t.Errorf("sent %v, which wraps %v: %t; received %v", sent, other, errors.Is(sent, other), err)
				}
			}
		}
	}
}

// TestInvalidStreams checks that invalid frames and false lengths from a worker are errors. After a batch that is too
// large, the stream has not ended, so the worker must not get another statement.
func TestInvalidStreams(t *testing.T) {
	encoded := func() string {
		var text strings.Builder
		in, out := net.Pipe()
		go func() {
			_ = newConn(out).SendBatches(zerosReader(1, nil))
			_ = out.Close()
		}()
		_, _ = newConn(in).reader.WriteTo(&text)
		return text.String()
	}()
	hugeBatch := strings.Replace(encoded, "\x00\x35\x0c\x00", "\x00\x35\x0c\x7f", 1) // the size of the batch, 800,000 bytes
	for name, bytes := range map[string]string{
		"first half":          encoded[:len(encoded)/2],
		"no end frame":        encoded[:len(encoded)-5],
		"a value in a stream": strings.Replace(encoded, "p", "v", 1),
		"a frame of 4 GiB":    "v\xff\xff\xff\xff",
		"huge batch":          hugeBatch,
		"an error of 200 MB":  "f\x00\x00\x00\x0c{",
	} {
		for _, decoded := range []bool{true, false} {
			n, ended, err := readAll(startPair(t, func(c *Conn) { _, _ = c.c.Write([]byte(bytes)) }), decoded)
			if err == nil || name == "huge batch" && (!errors.Is(err, partd.ErrTooLarge) || ended) {
				t.Errorf("%s: read = %d bytes, %v, want an error; ended = %t", name, n, err, ended)
			}
		}
	}
}
