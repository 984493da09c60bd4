package stores_test

import (
	"bytes"
	"cmp"
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
	"github.com/go-partd/partd/stores"
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

// TestFullDisk checks each store on each kind of disk. A change that does not fit must fail without
// effect, say so, and use no space. A store on a full disk must be readable and dropped, and
// a log: store also opened. Layers use one kind of disk, unless PARTD_ALL_LAYERS is set. When there is space again, the store must work, and contain everything
// that it acknowledged.
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

func (f *diskTest) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *diskTest) open() {
	f.Helper()
	var err error
	f.store, err = stores.Open(f.ctx, f.url)
	f.must(err)
}

func (f *diskTest) reopen() {
	f.Helper()
	f.must(partd.Close(f.ctx, f.store))
	f.open()
	f.check("after reopening")
}

// fillKeys appends n bytes to each of 40 keys.
func (f *diskTest) fillKeys(n int) {
	f.Helper()
	for i := range 20 {
		if err := f.append(fmt.Sprint("key ", i), n); err != nil {
			f.Fatalf("append %d although the disk has space: %v", i, err)
		}
	}
}

// change makes a change and checks its outcome.
func (f *diskTest) change(c fullChange) {
	f.Helper()
	if !strings.HasSuffix(f.scheme, c.stores) {
		return
	}
	err := c.do(f)
	// A merge in the background may free space on the full disk. Then fill the disk and try again.
	for retries := 0; err == nil && c.want == mustFail && f.freeSpace != nil && retries < 10; retries++ {
		f.Logf("%s: the store freed space in round %d", c.name, f.round)
		f.freeSpace()
		f.fillKeys(1)
		f.freeSpace = vfstest.Fill(f, f.dir)
		err = c.do(f)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return
	}
	if c.want == mustFail && err == nil || c.want == mustSucceed && err != nil {
		f.Fatalf("%s: error %v, want one only if it must fail (%v)", c.name, err, c.want == mustFail)
	}
	f.checkFull(c.name, err)
}

// checkFull fails the test if err has an unknown outcome or a cause other than a full disk.
func (f *diskTest) checkFull(op string, err error) {
	f.Helper()
	if err != nil && (errors.Is(err, partd.ErrUnknownOutcome) || errors.Is(err, partd.ErrNeedsReopen) || !errors.Is(err, syscall.ENOSPC)) {
		f.Fatalf("%s = %v, want ENOSPC with a known outcome", op, err)
	}
}

// random returns bytes that do not compress, and do not fit on the disk.
var random = sync.OnceValue(func() []byte {
	b := make([]byte, 18<<20)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
})

// randomBytes returns the last n random bytes, so values of different sizes begin differently.
func randomBytes(n int) []byte {
	b := random()
	return b[len(b)-n:]
}

// tooMuch returns a value that does not fit on the disk.
func tooMuch() []byte { return random() }

// keep notes the value of a key unless err is set, and returns err.
func (f *diskTest) keep(key string, value []byte, err error) error {
	if err == nil {
		f.want[key] = value
	}
	return err
}

// append appends to two keys and, if the store acknowledges that, to the expected values.
func (f *diskTest) append(key string, n int) error {
	value := randomBytes(n)
	err := f.store.Append(f.ctx, partd.Entry{Key: key, Value: value}, partd.Entry{Key: key + "'", Value: value})
	if err == nil {
		f.want[key] = append(f.want[key], value...)
		f.want[key+"'"] = append(f.want[key+"'"], value...)
	}
	return err
}

// appendOldAndNew appends to existing and to new keys. It returns the last error.
func (f *diskTest) appendOldAndNew(n int) error {
	err := f.append(fmt.Sprint("key ", f.round), n)
	f.checkFull("append", err)
	return cmp.Or(f.append(fmt.Sprint("new ", f.round, n, len(f.want)), n), err)
}

// appendMany appends values of n bytes to many keys.
func (f *diskTest) appendMany(keys, n int) error {
	entries := make([]partd.Entry, keys)
	for i := range entries {
		entries[i] = partd.Entry{Key: fmt.Sprintf("many %0100d", i), Value: randomBytes(n)}
	}
	return f.store.Append(f.ctx, entries...)
}

// apply makes a change that can be repeated. Number 1 was applied before, and number 2 was not.
func (f *diskTest) apply(number uint64, change partd.Change, key string, value []byte) error {
	if f.session == 0 {
		return errors.ErrUnsupported
	}
	op := partd.Operation{Change: change, Entries: []partd.Entry{{Key: key, Value: value}}}
	applied, err := partd.Apply(f.ctx, f.store, partd.Tag{Session: f.session, Number: number}, op)
	if applied && number == 1 {
		return errors.New("the operation was applied twice")
	}
	return err
}

// beginSession sets a large value. If the store supports sessions, the change is the first of a session.
func (f *diskTest) beginSession() {
	f.Helper()
	value := randomBytes(64 << 10)
	a, ok := f.store.(partd.Applier)
	if ok {
		var err error
		f.session, err = a.NewSession(f.ctx)
		f.must(ignoreUnsupported(err))
	}
	var err error
	if f.session == 0 {
		err = partd.Set(f.ctx, f.store, "applied", value)
	} else {
		op := partd.Operation{Change: partd.ChangeSet, Entries: []partd.Entry{{Key: "applied", Value: value}}}
		_, err = a.Apply(f.ctx, partd.Tag{Session: f.session, Number: 1}, op)
	}
	f.must(f.keep("applied", value, err))
}

// check compares the contents with what the store acknowledged.
func (f *diskTest) check(label string) {
	f.Helper()
	var size int64
	for key, want := range f.want {
		value, err := f.store.Get(f.ctx, key)
		if err != nil || !bytes.Equal(value[0], want) {
			f.Fatalf("%s: Get(%q) = %d bytes, %v, want %d bytes", label, key, len(value[0]), err, len(want))
		}
		size += int64(len(want))
	}
	if strings.Contains(f.scheme, "buffer") {
		return // other reads move data to the slow store, which needs space
	}
	got := map[string][]byte{}
	for c, err := range partd.Scan(f.ctx, f.store) {
		if err != nil {
			f.Fatalf("%s: Scan: %v", label, err)
		}
		got[c.Key] = append(got[c.Key], c.Data...)
	}
	stat, err := partd.Stat(f.ctx, f.store)
	if !maps.EqualFunc(got, f.want, bytes.Equal) || err != nil || stat.Keys != int64(len(f.want)) || stat.Bytes != size {
		f.Fatalf("%s: Scan yielded %d keys and Stat %+v (error %v), want %d keys with the right values, %d bytes", label, len(got), stat, err, len(f.want), size)
	}
	for k, err := range partd.Keys(f.ctx, f.store) {
		if err != nil || k.Size != int64(len(f.want[k.Key])) {
			f.Fatalf("%s: Keys yielded size %d for key %q (error %v), want %d", label, k.Size, k.Key, err, len(f.want[k.Key]))
		}
	}
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
