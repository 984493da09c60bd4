package stores_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// fullStores maps schemes to options. A trailing colon only makes the key unique.
var fullStores = map[string]string{
	"file": "", "file:": "?sync=true", "zstd+file": "", "buffer+file": "?buffer.memory=1MiB",
	"buffer+file:": "?buffer.memory=1MiB&file.sync=true", "zstd+buffer+zlib+file": "?buffer.memory=1MiB",
	"log": "?memory=4MiB", "log:": "?memory=4MiB&sync=true", "zstd+log": "?log.memory=4MiB",
	"buffer+log": "?buffer.memory=1MiB&log.memory=4MiB", "buffer+log:": "?buffer.memory=1MiB&log.memory=4MiB&log.sync=true",
}

// outcome says how a change may end.
type outcome int

const (
	maySucceed  outcome = iota // it fails without effect, or is kept
	mustFail                   // it fails, and uses no space
	mustSucceed                // it has no effect, and uses no space
)

// fullChange is a change of a store on a small disk.
type fullChange struct {
	name   string
	stores string // suffix of the schemes that the change is for
	want   outcome
	do     func(f *diskTest) error
}

// fullDiskChanges are the changes of a full disk.
var fullDiskChanges = []fullChange{
	{"append 1 byte", "", maySucceed, func(f *diskTest) error { return f.appendOldAndNew(1) }},
	{"append 700 bytes", "", maySucceed, func(f *diskTest) error { return f.appendOldAndNew(700) }},
	{"append 5000 bytes", "", maySucceed, func(f *diskTest) error { return f.appendOldAndNew(5000) }},
	{"append 100,000 bytes", "", maySucceed, func(f *diskTest) error { return f.appendOldAndNew(100_000) }},
	{"append 1 MiB", "log", mustFail, func(f *diskTest) error { return f.append("large", 1<<20) }},
	{"append too much", "", mustFail, func(f *diskTest) error { return f.append("large", 9<<20) }},
	{"set", "", maySucceed, func(f *diskTest) error {
		key := fmt.Sprint("key ", f.round)
		return f.keep(key, randomBytes(9000), partd.Set(f.ctx, f.store, key, randomBytes(9000)))
	}},
	{"set once", "", maySucceed, func(f *diskTest) error {
		key := fmt.Sprint("once ", f.round, len(f.want))
		return f.keep(key, randomBytes(9000), partd.SetOnce(f.ctx, f.store, key, randomBytes(9000)))
	}},
	{"flush", "file", maySucceed, func(f *diskTest) error { return ignoreUnsupported(partd.Flush(f.ctx, f.store)) }},
	{"flush", "log", mustFail, func(f *diskTest) error {
		err := partd.Flush(f.ctx, f.store)
		if err == nil && strings.Contains(f.url, "+") {
			return syscall.ENOSPC // a few compressed bytes may fit
		}
		return err
	}},
}

// largeChanges are changes of a disk that has free space. Those that must fail do not fit on it.
var largeChanges = []fullChange{
	{"append to a key", "", mustFail, func(f *diskTest) error { return f.append("key 0", 9<<20) }},
	{"append to a new key", "", mustFail, func(f *diskTest) error { return f.append("large", 9<<20) }},
	{"append to many keys", "", mustFail, func(f *diskTest) error { return f.appendMany(40, 500_000) }},
	{"append many small values", "log", mustFail, func(f *diskTest) error {
		if strings.Contains(f.url, "+") {
			return syscall.ENOSPC // they fit if they are compressed
		}
		return f.appendMany(200_000, 1)
	}},
	{"set", "", mustFail, func(f *diskTest) error { return partd.Set(f.ctx, f.store, "key 1", tooMuch()) }},
	{"set once", "", mustFail, func(f *diskTest) error { return partd.SetOnce(f.ctx, f.store, "unknown", tooMuch()) }},
	{"apply an append", "", mustFail, func(f *diskTest) error { return f.apply(2, partd.ChangeAppend, "key 3", tooMuch()) }},
	{"apply a set", "", mustFail, func(f *diskTest) error { return f.apply(2, partd.ChangeSet, "unknown", tooMuch()) }},
	{"set an existing key once", "", mustSucceed, func(f *diskTest) error {
		return partd.SetOnce(f.ctx, f.store, "key 2", randomBytes(200_000))
	}},
	{"set an existing key once to a large value", "", mustSucceed, func(f *diskTest) error {
		return partd.SetOnce(f.ctx, f.store, "key 2", randomBytes(1<<20))
	}},
	{"retry an append", "", mustSucceed, func(f *diskTest) error { return f.apply(1, partd.ChangeAppend, "key 3", randomBytes(1<<20)) }},
	{"retry a set", "", mustSucceed, func(f *diskTest) error { return f.apply(1, partd.ChangeSet, "key 3", randomBytes(1<<20)) }},
}

// TestFullDisk checks each store on each kind of disk. A change that does not fit must fail without effect, say so, and
// use no space. A store on a full disk must be readable and dropped, and a log: store also opened. Layers use one kind
// of disk, unless PARTD_ALL_LAYERS is set. When there is space again, the store must work, and contain everything that
// it acknowledged.
func TestFullDisk(t *testing.T) {
	for _, kind := range vfstest.Kinds {
		for scheme, options := range fullStores {
			if kind == "tmpfs" && strings.Contains(scheme, "+") && os.Getenv("PARTD_ALL_LAYERS") == "" {
				continue // the store under the layers writes the files
			}
			t.Run(fmt.Sprintf("%s/%s/%v", kind, scheme, strings.Contains(options, "sync")), func(t *testing.T) {
				t.Parallel()
				dir := vfstest.Mount(t, kind, 16<<20)
				url := strings.TrimSuffix(scheme, ":") + ":" + filepath.Join(dir, "store") + options
				f := &diskTest{T: t, ctx: t.Context(), kind: kind, dir: dir, scheme: strings.TrimSuffix(scheme, ":"), url: url, want: map[string][]byte{}}
				f.open()
				f.fillKeys(1500)
				f.must(partd.Sync(f.ctx, f.store))
				f.changeTooMuch()
				for range 3 {
					f.changeOnFullDisk()
				}
				f.reopen()
				f.dropOnFullDisk()
				f.must(partd.Close(f.ctx, f.store))
			})
		}
	}
}

// changeTooMuch makes changes that do not fit on the disk, and then small changes.
func (f *diskTest) changeTooMuch() {
	f.Helper()
	f.beginSession()
	for range 3 { // a log uses each of its write-ahead files
		f.fillKeys(1)
		f.must(ignoreUnsupported(partd.Flush(f.ctx, f.store)))
	}
	for _, change := range largeChanges {
		before := vfstest.Free(f, f.dir)
		for range 1 + 2*int(change.want/mustSucceed) {
			f.change(change)
		}
		if after := vfstest.Free(f, f.dir); after < before-f.slack() {
			f.Fatalf("%s: %d bytes were free before it, and %d are after it", change.name, before, after)
		}
		f.check(change.name)
	}
	for range 10 {
		f.fillKeys(1500)
	}
}

// slack returns how much space a change without effect may use.
func (f *diskTest) slack() int64 {
	switch {
	case strings.HasSuffix(f.scheme, "file"):
		return 1 << 20 // the journal
	case f.kind == "ext4":
		return 16 << 10 // metadata
	}
	return 0
}

// changeOnFullDisk fills the disk, changes the store, and frees space. In the second round it also drops the store.
func (f *diskTest) changeOnFullDisk() {
	f.Helper()
	f.round++
	f.freeSpace = vfstest.Fill(f, f.dir)
	f.check("before changes")
	for range 2 {
		for _, change := range fullDiskChanges {
			f.change(change)
		}
	}
	f.check("on the full disk")
	key := slices.Min(slices.Collect(maps.Keys(f.want)))
	if err := partd.Delete(f.ctx, f.store, key); err == nil {
		delete(f.want, key)
	} else {
		f.checkFull("delete", err)
		value, err := f.store.Get(f.ctx, key)
		f.must(err)
		if len(value[0]) == 0 && strings.HasSuffix(f.scheme, "file") {
			delete(f.want, key)
		}
	}
	f.check("after a delete")
	if f.round == 2 {
		f.must(f.store.Drop(f.ctx))
		clear(f.want)
		f.check("after a drop")
	}
	f.freeSpace()
	f.freeSpace = nil
	f.check("with space again")
	f.fillKeys(3000)
	if err := f.append("large", 100_000); err != nil {
		f.Fatal(err)
	}
	f.must(errors.Join(ignoreUnsupported(partd.Flush(f.ctx, f.store)), partd.Sync(f.ctx, f.store)))
	f.check("after changes with space")
}

// dropOnFullDisk opens the store on a full disk and drops it.
func (f *diskTest) dropOnFullDisk() {
	f.Helper()
	if !strings.HasSuffix(f.scheme, "log") {
		return // such a store need not open
	}
	for range 2 {
		f.fillKeys(20_000)
		freeSpace := vfstest.Fill(f, f.dir)
		_ = partd.Close(f.ctx, f.store) // fails if it cannot flush everything
		if strings.Contains(f.scheme, "buffer") {
			freeSpace() // what a Buffer could not flush is lost
			return
		}
		vfstest.Fill(f, f.dir)
		f.open()
		f.check("after opening on a full disk")
		f.must(f.store.Drop(f.ctx))
		clear(f.want)
		vfstest.Free(f, f.dir) // on ext4, blocks are free when its journal is written
		if err := f.append("key 0", 1500); err != nil {
			f.Fatalf("append after a drop: %v", err)
		}
		f.check("after a drop")
		freeSpace()
		f.reopen()
	}
}

// diskTest is a test of a store on a small disk, with the expected contents.
type diskTest struct {
	*testing.T
	ctx     context.Context
	kind    string
	dir     string
	scheme  string
	url     string
	store   partd.Partd
	session uint64
	round   int
	want    map[string][]byte

	freeSpace func() // frees the space of a full disk; nil if the disk is not full
}

// random returns bytes that do not compress, and do not fit on the disk.
var random = sync.OnceValue(func() []byte {
	b := make([]byte, 18<<20)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
})
