package tables_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// faultyBucket is a bucket that can fail uploads and return wrong data.
type faultyBucket struct {
	objstore.Memory
	create func(name string, upload func() error) error
	read   func(name string, data []byte) []byte
}

func (l *faultyBucket) Create(ctx context.Context, name string, data []byte) error {
	if l.create != nil {
		return l.create(name, func() error { return l.Memory.Create(ctx, name, data) })
	}
	return l.Memory.Create(ctx, name, data)
}

func (l *faultyBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := l.Memory.ReadRange(ctx, name, offset, length)
	if err != nil || l.read == nil {
		return r, err
	}
	data, err := io.ReadAll(r)
	return io.NopCloser(bytes.NewReader(l.read(name, data))), err
}

const memoryURL = "s3://memory/house"

// TestUncertainUploads checks that puts succeed although the bucket often fails, before or after it stores an object.
func TestUncertainUploads(t *testing.T) {
	b := &faultyBucket{}
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(1, 1))
	var failed atomic.Int64
	b.create = func(_ string, upload func() error) error {
		mu.Lock()
		n := rnd.IntN(4)
		mu.Unlock()
		switch n {
		case 0:
			failed.Add(1)
			return tabletest.ErrShaky
		case 1:
			failed.Add(1)
			_ = upload()
			return tabletest.ErrShaky
		}
		return upload()
	}
	s := tabletest.Open(t, memoryURL, tabletest.MemoryWarehouse(t, b))
	for n := range int64(10) {
		tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, n)
	}
	tabletest.WantRows(t, s.Bucket(""), "a", tabletest.Sequence(0, 10)...)
	if n := failed.Load(); n < 10 {
		t.Fatalf("only %d uploads failed, want at least 10", n)
	}
}

// TestDamagedObjects checks that it is an error to read a truncated or corrupt object that is not cached, or to create
// an object whose name another program has already used.
func TestDamagedObjects(t *testing.T) {
	b := &faultyBucket{}
	o := tabletest.MemoryWarehouse(t, b)
	s := tabletest.Open(t, memoryURL, o)
	tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, tabletest.Sequence(0, 100)...)
	tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, tabletest.Sequence(100, 100)...)
	var names []string
	for obj, err := range b.List(t.Context(), "", "") {
		must.Do(t, err)
		names = append(names, obj.Name)
	}
	detected := 0
	for _, name := range names {
		for _, corrupt := range []func([]byte) []byte{
			func(d []byte) []byte { return d[:len(d)/2] },
			func(d []byte) []byte { return nil },
			func(d []byte) []byte { d = bytes.Clone(d); d[len(d)/2] ^= 4; return d },
		} {
			b.read = func(requested string, data []byte) []byte {
				if requested == name {
					return corrupt(data)
				}
				return data
			}
			uncached := *o
			uncached.CacheDir = t.TempDir()
			s := tabletest.Open(t, memoryURL, &uncached)
			got, _, err := tabletest.Read(t.Context(), s.Bucket(""), "a")
			var corrupt *partd.CorruptError
			if err == nil && len(got) != 200 || err != nil && !errors.As(err, &corrupt) {
				t.Fatalf("with the object %s damaged, read %d rows, error %v; want 200 rows or a CorruptError", name, len(got), err)
			}
			if err != nil {
				detected++
			}
		}
	}
	if detected < 3*4 { // three kinds of damage to at least two data files, a manifest list and a manifest
		t.Errorf("detected %d damaged objects, want at least 12", detected)
	}
	b.read = nil
	// A damaged file in the cache is fetched again.
	must.Do(t, filepath.WalkDir(filepath.Join(o.CacheDir, "files"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Truncate(path, 10)
		}
		return err
	}))
	tabletest.WantRows(t, tabletest.Open(t, memoryURL, o).Bucket(""), "a", tabletest.Sequence(0, 200)...)

	b.create = func(name string, upload func() error) error {
		if err := b.Memory.Create(t.Context(), name, []byte("another program's data")); err != nil {
			return err
		}
		return upload()
	}
	if _, err := s.Bucket("").Table("a").Put(t.Context(), tabletest.Rows(1), tables.PutAppend, nil); err == nil {
		t.Error("Put succeeded although another program wrote the object, want an error")
	}
}

// TestRequests checks how many bucket requests appends, folds and reads cause. Reading cached files must cause none.
func TestRequests(t *testing.T) {
	counted := objstore.NewCounter(new(objstore.Memory))
	o := tabletest.MemoryWarehouse(t, counted)
	o.TailDir = t.TempDir() + "/tail"
	s := tabletest.Open(t, memoryURL, o)
	b := s.Bucket("")
	var last objstore.Requests
	check := func(label string, want objstore.Requests) {
		t.Helper()
		total := counted.Requests()
		if got := (objstore.Requests{Put: total.Put - last.Put, Get: total.Get - last.Get, List: total.List - last.List, Delete: total.Delete - last.Delete}); got != want {
			t.Errorf("%s caused requests %+v, want %+v", label, got, want)
		}
		last = total
	}
	check("open with a new catalog, which must not belong to other files", objstore.Requests{List: 1})
	tabletest.Put(t, b, "a", tables.PutAppend, 1)
	check("an append to the tail that creates a table", objstore.Requests{Put: 1})
	for n := range int64(50) {
		tabletest.Put(t, b, "a", tables.PutAppend, 2+n)
	}
	check("50 appends to the tail", objstore.Requests{})
	tabletest.Fold(t, s)
	check("a fold, which writes a data file, a manifest, a manifest list and metadata", objstore.Requests{Put: 4})
	tabletest.WantRows(t, b, "a", tabletest.Sequence(1, 51)...)
	check("a read of files that this machine wrote", objstore.Requests{})
	otherMachine := *o
	otherMachine.TailDir, otherMachine.CacheDir = "", t.TempDir()
	d := tabletest.Open(t, memoryURL, &otherMachine).Bucket("")
	tabletest.WantRows(t, d, "a", tabletest.Sequence(1, 51)...)
	check("the first read on another machine", objstore.Requests{Get: 4})
	tabletest.WantRows(t, d, "a", tabletest.Sequence(1, 51)...)
	check("the second read on another machine", objstore.Requests{})
	for n := range int64(3) {
		tabletest.Put(t, d, "a", tables.PutAppend, 52+n)
		check("an append without a tail", objstore.Requests{Put: 4})
	}
	tabletest.Put(t, b, "a", tables.PutAppend, 55)
	last = counted.Requests() // leave out the put, which also read the new metadata
	tabletest.WantRows(t, b, "a", tabletest.Sequence(1, 55)...)
	check("a read after three commits by another machine", objstore.Requests{Get: 1 + 3 + 3})
}

// losingProxy starts a proxy to the server at addr. At each COMMIT it calls onCommit, which returns whether to cut the
// connection, and whether to do so before the COMMIT is forwarded. If the connection is cut later, only the response
// to the COMMIT is lost.
func losingProxy(t *testing.T, addr string, onCommit func() (cut, beforeForward bool)) string {
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				client.Close()
				continue
			}
			closeBoth := func() { client.Close(); server.Close() }
			go func() {
				defer closeBoth()
				_, _ = io.Copy(client, server)
			}()
			go func() {
				defer closeBoth()
				buf := make([]byte, 64<<10)
				for {
					n, err := client.Read(buf)
					if err != nil {
						return
					}
					cut, beforeForward := false, false
					if strings.Contains(strings.ToLower(string(buf[:n])), "\x0bcommit\x00") {
						cut, beforeForward = onCommit()
					}
					if cut && beforeForward {
						return
					}
					if cut { // discard the response
						client.Close()
					}
					if _, err := server.Write(buf[:n]); err != nil {
						return
					}
					if cut {
						time.Sleep(50 * time.Millisecond) // the COMMIT may or may not be complete when its outcome is looked up
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestLostCommitResponses checks that if the response to a COMMIT is lost, its outcome is looked up: the append is
// acknowledged, and its rows occur once.
func TestLostCommitResponses(t *testing.T) {
	server := procs.StartPostgres(t)
	var mu sync.Mutex
	n, cuts, armed := 0, 0, false
	proxy := losingProxy(t, server.Addr, func() (bool, bool) {
		mu.Lock()
		defer mu.Unlock()
		if !armed {
			return false, false
		}
		n++
		if n%3 == 0 {
			return false, false
		}
		cuts++
		return true, n%3 == 1
	})
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Catalog: server.URL(proxy), NoTail: true})
	tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, 0)
	mu.Lock()
	armed = true
	mu.Unlock()
	for n := int64(1); n < 15; n++ {
		tabletest.PutRows(t, s.Bucket(""), "a", tabletest.Rows(n), tables.PutAppend, nil)
		tabletest.WantRows(t, s.Bucket(""), "a", tabletest.Sequence(0, n+1)...)
	}
	mu.Lock()
	armed = false
	if cuts < 10 {
		t.Errorf("only %d connections were cut, want at least 10", cuts)
	}
	mu.Unlock()
	if vs, err := s.Bucket("").Table("a").Versions(t.Context()); err != nil || len(vs) != 15 {
		t.Errorf("the table has %d versions (error %v), want 15", len(vs), err)
	}
}

// TestSecretsInURLs checks that URLs with credentials are rejected, and that errors do not show the credentials.
func TestSecretsInURLs(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"s3://AKIA:secret@bucket/house", "s3://AKIA:sec/ret@bucket/house", "gs://secret@bucket/house"} {
		s, err := tables.Open(t.Context(), url, tabletest.MemoryWarehouse(t, &faultyBucket{}))
		if err == nil {
			t.Errorf("Open(%q) succeeded with Dir %q, want an error", url, s.Dir())
			s.Close()
		} else if strings.Contains(err.Error(), "sec") {
			t.Errorf("Open error = %v, want an error without the credentials", err)
		}
	}
}
