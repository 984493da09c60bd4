package flightd

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestCallTimeout checks that a call that waits for longer than CallTimeout ends with DeadlineExceeded.
func TestCallTimeout(t *testing.T) {
	_, _, address := serveTest(t, &Options{CallTimeout: 300 * time.Millisecond})
	client := dialTest(t, address)
	must.Get(doAction(t.Context(), client, "partd.lock", `{"name":"t"}`))(t)
	if _, err := doAction(t.Context(), client, "partd.lock", `{"name":"t"}`); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "longer than the server allows") {
		t.Errorf("a call that waits for a lock: %v, want DeadlineExceeded", err)
	}
}

// TestCopyCanceled cancels backups while they wait for their rate. Soon after, the server can copy again. A shutdown
// ends a backup at once.
func TestCopyCanceled(t *testing.T) {
	server, store, address := serveTest(t, &Options{BackupDir: t.TempDir()})
	client := dialTest(t, address)
	b := array.NewRecordBuilder(memory.DefaultAllocator, floats)
	for range 50_000 {
		b.Field(0).(*array.Float64Builder).Append(rand.Float64())
	}
	tabletest.PutRows(t, store.Bucket(""), "t", tabletest.OneBatch(b.NewRecordBatch()), tables.PutError, nil)
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
	var st flight.FlightService_DoActionClient
	var err error
	waitFor(t, "a slow backup does not begin", func() bool {
		if st, err = client.DoAction(t.Context(), &flight.Action{Type: "partd.backup", Body: []byte(`{"dir":"new","name":"slow","rate":1}`)}); err == nil {
			_, err = st.Recv()
		}
		return err == nil
	})
	server.stop()
	for start := time.Now(); err == nil; {
		if _, err = st.Recv(); err != nil && (status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "shutting down") || time.Since(start) > server.opts.Grace/2) {
			t.Errorf("%v after a shutdown began, a backup ends with %v, want Unavailable", time.Since(start), err)
		}
	}
}

// TestCopiesDirectory checks that a server copies only to real directories in BackupDir, and that a read-only server
// can still verify tables and list backups.
func TestCopiesDirectory(t *testing.T) {
	root := t.TempDir()
	dir, backups := filepath.Join(root, "tables"), filepath.Join(root, "backups")
	store, err := tables.Open(t.Context(), dir, nil)
	if err == nil {
		err = errors.Join(os.Mkdir(backups, 0o777), os.Mkdir(filepath.Join(root, "other"), 0o777), os.WriteFile(filepath.Join(backups, "file"), nil, 0o666))
	}
	must.Do(t, err)
	t.Cleanup(func() { _ = store.Close() })
	if err := errors.Join(os.Symlink(filepath.Join(dir, "data"), filepath.Join(backups, "inside")), os.Symlink(filepath.Join(root, "other"), filepath.Join(backups, "outside"))); err != nil {
		t.Skip(err)
	}
	tabletest.PutRows(t, store.Bucket(""), "t", must.Get(array.NewRecordReader(floats, nil))(t), tables.PutError, nil)
	client := func(o *Options) flight.Client {
		address, _ := nettest.Serve(t, must.Get(New(store, o))(t).Serve)
		return dialTest(t, address)
	}
	c := client(&Options{BackupDir: backups})
	for _, name := range []string{"inside", "outside", "file"} {
		if _, err := doAction(t.Context(), c, "partd.backup", `{"dir":"`+name+`","name":"x"}`); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("a backup to %q: %v, want FailedPrecondition", name, err)
		}
	}
	must.Get(doAction(t.Context(), c, "partd.backup", `{"dir":"good","name":"x"}`))(t)
	for fields, want := range map[string]codes.Code{
		`"tables":["t"]`: codes.InvalidArgument, `"tables":["t"],"buckets":["",""]`: codes.InvalidArgument,
		`"tables":["none"],"buckets":[""]`: codes.NotFound, `"tables":["t"],"buckets":[""]`: codes.OK, `"unknown":1`: codes.OK,
	} {
		waitFor(t, "a restore with "+fields+" does not return "+want.String(), func() bool { // until the call before has ended
			_, err := doAction(t.Context(), c, "partd.restore_backup", `{"dir":"good","name":"x",`+fields+`}`)
			return status.Code(err) == want
		})
	}
	readOnly := client(&Options{BackupDir: backups, ReadOnly: true})
	for action, want := range map[string]codes.Code{
		"partd.verify {}": codes.OK, `partd.backups {"dir":"good"}`: codes.OK, `partd.verify {"dir":"good"}`: codes.PermissionDenied,
		`partd.backup {"dir":"good","name":"y"}`: codes.PermissionDenied, `partd.copy {"dir":"y"}`: codes.PermissionDenied,
		`partd.restore_backup {"dir":"good","name":"x"}`: codes.PermissionDenied,
	} {
		name, body, _ := strings.Cut(action, " ")
		waitFor(t, action+" of a read-only server does not return "+want.String(), func() bool { // until the call before has ended
			_, err := doAction(t.Context(), readOnly, name, body)
			return status.Code(err) == want
		})
	}
	must.Do(t, errors.Join(os.Rename(backups, backups+" moved"), os.Symlink(dir, backups)))
	waitFor(t, "the error of a replaced directory for copies", func() bool {
		_, err = doAction(t.Context(), c, "partd.backup", `{"dir":"x","name":"x"}`)
		return err != nil && strings.Contains(err.Error(), "must neither contain")
	})
}
