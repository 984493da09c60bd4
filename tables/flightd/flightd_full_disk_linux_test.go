//go:build cgo

package flightd

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightclient"
)

var isFull = regexp.MustCompile("(no space left on device|database or disk is full)")

// TestFullDisk checks what every kind of call answers on a full disk: an error without a path of the server.
// The log has an error with the path. After some space is freed, all calls succeed.
func TestFullDisk(t *testing.T) {
	disk := vfstest.Mount(t, "tmpfs", 64<<20)
	dir := filepath.Join(disk, "house")
	engine := must.Get(duck.New(&duck.Options{TempDir: t.TempDir()}))(t)
	store := must.Get(tables.Open(t.Context(), dir, &tables.Options{Engine: engine, FoldAge: -1}))(t)
	var log strings.Builder
	s := must.Get(New(store, &Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}))(t)
	address, _ := nettest.Serve(t, s.Serve, store, engine)
	c, ctx := dialTest(t, address), t.Context()
	client := must.Get(flightclient.Dial("grpc://"+address, nil))(t)
	t.Cleanup(func() { _ = client.Close() })
	sql := &flightsql.Client{Client: c}
	const rows = 100_000
	put := func(mode tables.PutMode) error {
		b := floatBatch(rows)
		r, err := array.NewRecordReader(floats, []arrow.RecordBatch{b})
		must.Do(t, err)
		defer r.Release()
		_, err = client.Put(ctx, "", "native", r, mode, nil)
		return err
	}
	action := func(kind, body string) func() error {
		return func() error { _, err := doAction(ctx, c, kind, body); return err }
	}
	update := func(statement string) func() error {
		return func() error { _, err := sql.ExecuteUpdate(ctx, statement); return err }
	}
	calls := map[string]func() error{
		"shoots put":     func() error { return putTest(ctx, c, `{"name":"t","bucket":"b","mode":"append"}`, 3, rows) },
		"shoots replace": func() error { return putTest(ctx, c, `{"name":"t","bucket":"b","mode":"replace"}`, 3, rows) },
		"native put":     func() error { return put(tables.PutAppend) },
		"native replace": func() error { return put(tables.PutReplace) },
		"insert":         update("INSERT INTO b.t SELECT random() FROM range(200000)"),
		"create":         update("CREATE OR REPLACE TABLE u AS SELECT random() AS x FROM range(200000)"),
		"update":         update("UPDATE b.t SET x = random()"),
		"compact":        action("partd.compact", `{"Buckets":["b"],"Tables":["t"]}`),
		"snapshot":       action("partd.snapshot", `{"name":"n"}`),
		"resample":       action("resample", `{"source":"t","source_bucket":"b","target":"r","sql":"SELECT random() AS x FROM t"}`),
	}
	for range 2 { // two files of b.t; rows of small in the tail
		must.Do(t, errors.Join(putTest(ctx, c, `{"name":"t","bucket":"b","mode":"append"}`, 3, rows), putTest(ctx, c, `{"name":"small","mode":"append"}`, 1, 10)))
		must.Get(store.Fold(ctx, &tables.MaintainOptions{Buckets: []string{"b"}}))(t)
	}
	free := vfstest.Fill(t, disk)
	if err := s.Ready(); err == nil || strings.Contains(err.Error(), disk) {
		t.Errorf("Ready() on a full disk = %v, want an error without a path", err)
	}
	for name, call := range calls {
		log.Reset()
		err := call()
		if err == nil || !isFull.MatchString(err.Error()) || strings.Contains(fmt.Sprintf("%+v %v", err, status.Convert(err).Details()), disk) {
			t.Errorf("%s on a full disk: error %v, want one that says so, without a path", name, err)
		}
		want := regexp.MustCompile(`level=ERROR .* code=ResourceExhausted .*` + isFull.String())
		if !want.MatchString(log.String()) {
			t.Errorf("%s on a full disk: log %q, want a match of %v", name, log.String(), want)
		}
	}
	if b := store.Backlog(); b.Rows != 20 || b.Bytes < 80 || time.Since(b.Oldest) > time.Hour {
		t.Errorf("Backlog() = %+v, want the 20 rows of a table", b)
	}
	free()
	if err := s.Ready(); err != nil {
		t.Errorf("Ready() after space was freed = %v, want nil", err)
	}
	for name, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s after space was freed: %v", name, err)
		}
	}
	if _, err := store.Fold(ctx, nil); err != nil || store.Backlog() != (tables.Backlog{}) {
		t.Errorf("after a fold (error %v), Backlog() = %+v, want none", err, store.Backlog())
	}
}
