package flightd

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
)

// TestCallTimeout checks that a call that waits for longer than CallTimeout ends with DeadlineExceeded.
func TestCallTimeout(t *testing.T) {
	_, _, address := serveTest(t, &Options{CallTimeout: 300 * time.Millisecond})
	client := dialTest(t, address)
	if _, err := doAction(t.Context(), client, "partd.lock", `{"name":"t"}`); err != nil {
		t.Fatal(err)
	}
	if _, err := doAction(t.Context(), client, "partd.lock", `{"name":"t"}`); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "longer than the server allows") {
		t.Errorf("a call that waits for a lock: %v, want DeadlineExceeded", err)
	}
}

// TestCopyCanceled cancels backups while they wait for their rate. Soon after, the server can copy again.
func TestCopyCanceled(t *testing.T) {
	_, store, address := serveTest(t, &Options{BackupDir: t.TempDir()})
	client := dialTest(t, address)
	b := array.NewRecordBuilder(memory.DefaultAllocator, floats)
	for range 50_000 {
		b.Field(0).(*array.Float64Builder).Append(rand.Float64())
	}
	r, err := array.NewRecordReader(floats, []arrow.RecordBatch{b.NewRecordBatch()})
	if err == nil {
		_, err = store.Bucket("").Table("t").Put(t.Context(), r, tables.PutError, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		answer, err := doAction(ctx, client, "partd.backup", `{"dir":"d","name":"slow","rate":1}`)
		if err != nil || !strings.Contains(answer, `"bytes":`) || strings.Contains(answer, `"table"`) {
			t.Fatalf("the first answer of a slow backup is %s, %v, want its progress", answer, err)
		}
		if _, err := doAction(t.Context(), client, "partd.verify", `{}`); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("verify during a backup: %v, want ResourceExhausted", err)
		}
		cancel()
		waitFor(t, "the server still copies", func() bool {
			st, err := client.DoAction(t.Context(), &flight.Action{Type: "partd.verify", Body: []byte("{}")})
			for err == nil {
				_, err = st.Recv()
			}
			return errors.Is(err, io.EOF)
		})
	}
	if answer, err := doAction(t.Context(), client, "partd.backup", `{"dir":"d","name":"good"}`); err != nil || !strings.Contains(answer, `"table"`) {
		t.Errorf("a backup after canceled ones: %s, %v", answer, err)
	}
	waitFor(t, "the backup good is not listed", func() bool { // until the first call has ended
		answer, err := doAction(t.Context(), client, "partd.backups", `{"dir":"d"}`)
		return err == nil && strings.Contains(answer, `"good"`)
	})
}
