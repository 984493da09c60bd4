package stores_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"strings"
	"syscall"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/stores"
)

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
