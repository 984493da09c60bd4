package compress_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

var layerStacks = map[string]func(t *testing.T, inner partd.Partd) partd.Partd{
	"zstd":             withZstd,
	"buffer":           smallBuffer,
	"zstd over buffer": func(t *testing.T, p partd.Partd) partd.Partd { return withZstd(t, smallBuffer(t, p)) },
	"buffer over zstd": func(t *testing.T, p partd.Partd) partd.Partd { return smallBuffer(t, withZstd(t, p)) },
}

func withZstd(t *testing.T, p partd.Partd) partd.Partd {
	return must.Get(compress.New(p, compress.Zstd, nil))(t)
}

func smallBuffer(t *testing.T, slow partd.Partd) partd.Partd {
	return must.Get(partd.NewBuffer(partd.NewDict(), slow, &partd.BufferOptions{Memory: 64 << 10}))(t)
}

// isInDoubt reports whether err says that a buffer does not know the state of a key in the slow store.
func isInDoubt(err error) bool {
	return err != nil && strings.Contains(err.Error(), "it is unknown whether the slow store has all of this key's data")
}

// openOn opens a directory on fsys. boot replaces the system's boot ID.
func openOn(fsys vfs.FS, opts *partd.FileOptions, boot uint64) (*storetest.Dir, error) {
	return storetest.OpenDir(fsys, "/store", opts, filedir.Hooks{KeepLock: -1, Boot: boot})
}

type layerOp struct {
	name  string
	do    func(ctx context.Context, s partd.Partd) error
	apply func(m map[string]string)
}

func layerOps() []layerOp {
	rnd := rand.New(rand.NewPCG(1, 1))
	var ops []layerOp
	appends := func(keys, size int) {
		entries := map[string]string{}
		for range keys {
			value := make([]byte, size)
			for i := range value {
				value[i] = byte(rnd.Uint32())
			}
			entries[fmt.Sprint("k", rnd.IntN(12))] = string(value)
		}
		ops = append(ops, layerOp{fmt.Sprint("append ", keys, " of ", size), func(ctx context.Context, s partd.Partd) error {
			var list []partd.Entry
			for k, v := range entries {
				list = append(list, partd.Entry{Key: k, Value: []byte(v)})
			}
			return s.Append(ctx, list...)
		}, func(m map[string]string) {
			for k, v := range entries {
				m[k] += v
			}
		}})
	}
	appends(5, 100)
	appends(3, 900)
	ops = append(ops, layerOp{"set", func(ctx context.Context, s partd.Partd) error {
		return partd.Set(ctx, s, "k1", []byte("set"))
	}, func(m map[string]string) { m["k1"] = "set" }})
	appends(12, 2000) // too large for the buffer
	appends(1, 1500)
	ops = append(ops, layerOp{"flush", func(ctx context.Context, s partd.Partd) error {
		err := partd.Flush(ctx, s)
		if errors.Is(err, errors.ErrUnsupported) || isInDoubt(err) {
			return nil
		}
		return err
	}, func(map[string]string) {}})
	appends(4, 700)
	ops = append(ops, layerOp{"pop", func(ctx context.Context, s partd.Partd) error {
		_, err := partd.Pop(ctx, s, "k2", "k3")
		return err
	}, func(m map[string]string) { delete(m, "k2"); delete(m, "k3") }})
	for range 20 {
		appends(1, 1000)
	}
	ops = append(ops, layerOp{"delete", func(ctx context.Context, s partd.Partd) error {
		return partd.Delete(ctx, s, "k4", "k5", "k6")
	}, func(m map[string]string) { delete(m, "k4"); delete(m, "k5"); delete(m, "k6") }})
	ops = append(ops, layerOp{"set once", func(ctx context.Context, s partd.Partd) error {
		return partd.SetOnce(ctx, s, "once", []byte("1"))
	}, func(m map[string]string) {
		if _, ok := m["once"]; !ok {
			m["once"] = "1"
		}
	}})
	appends(8, 300)
	return ops
}

// TestLayersAfterEveryFault makes 1 or 60 file system calls fail, starting at each call in turn. Acknowledged data must
// be readable afterwards, failed operations must have changed nothing, and synced data must survive a power failure.
func TestLayersAfterEveryFault(t *testing.T) {
	ops := layerOps()
	for name, newLayer := range layerStacks {
		for _, opts := range []*partd.FileOptions{{}, {Sync: true}} {
			for i, failedCalls := range []int64{1, 60} {
				t.Run(fmt.Sprintf("%s/sync=%v/calls=%d", name, opts.Sync, failedCalls), func(t *testing.T) {
					t.Parallel()
					for n, hit := 1+int64(i), true; hit; n += vfstest.FaultStep(7) {
						errno := []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE}[n%3]
						hit = runOpsWithFault(t, newLayer, opts, ops, n, failedCalls, errno)
					}
				})
			}
		}
	}
}

// layerFault makes n calls fail, starting with firstCall.
type layerFault struct {
	mu           sync.Mutex
	enabled      bool
	calls        int64
	firstCall, n int64
	err          error
	syncFailed   bool // a sync, or another call with an unknown effect, has failed
}

func (f *layerFault) check(op vfstest.Op, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.enabled {
		return nil
	}
	if f.calls++; f.calls < f.firstCall || f.calls >= f.firstCall+f.n {
		return nil
	}
	switch op {
	case vfstest.OpSync, vfstest.OpSyncDir, vfstest.OpClose, vfstest.OpRemove:
		f.syncFailed = true
	}
	return vfstest.ShortWrite(f.err)
}

func (f *layerFault) set(enabled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.enabled = enabled
}

func runOpsWithFault(t *testing.T, newLayer func(*testing.T, partd.Partd) partd.Partd, opts *partd.FileOptions, ops []layerOp, firstCall, n int64, errno error) (hit bool) {
	t.Helper()
	ctx := t.Context()
	mem := vfstest.NewMem()
	fault := &layerFault{firstCall: firstCall, n: n, err: errno}
	file := must.Get(openOn(vfstest.Inject(mem, fault.check), opts, 1))(t)
	defer file.Close()
	store := newLayer(t, file)
	var trace []string
	failf := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%[2]d calls fail with %[3]v, starting at call %[1]d: %[4]s\n%[5]s", firstCall, n, errno, fmt.Sprintf(format, args...), strings.Join(trace, "\n"))
	}
	fault.set(true)
	allowed := []map[string]string{{}} // allowed contents
	for _, op := range ops {
		err := op.do(ctx, store)
		trace = append(trace, fmt.Sprintf("%s: %v", op.name, err))
		switch {
		case err == nil:
			for _, m := range allowed {
				op.apply(m)
			}
		case errors.Is(err, partd.ErrUnknownOutcome):
			for _, m := range slices.Clone(allowed) {
				m = maps.Clone(m)
				op.apply(m)
				allowed = append(allowed, m)
			}
		}
	}
	fault.set(false)
	syncFailed := fault.syncFailed
	flushErr := partd.Flush(ctx, store)
	if errors.Is(flushErr, errors.ErrUnsupported) {
		flushErr = nil
	}
	if flushErr != nil && !syncFailed {
		failf("Flush: %v", flushErr)
	}
	got := map[string]string{}
	for key := range keysOf(allowed) {
		v, err := store.Get(ctx, key)
		if isInDoubt(err) && syncFailed {
			return true // the fault left the key's state in the slow store unknown
		}
		if err != nil {
			failf("Get: %v", err)
		}
		if len(v[0]) > 0 {
			got[key] = string(v[0])
		}
	}
	if !slices.ContainsFunc(allowed, func(m map[string]string) bool { return maps.Equal(m, got) }) {
		failf("%s", diffValues(got, allowed[0]))
	}
	if syncErr := partd.Sync(ctx, store); syncErr == nil {
		for i := range 3 {
			rnd := rand.New(rand.NewPCG(uint64(firstCall), uint64(i)))
			if i == 2 {
				rnd = nil
			}
			f, err := openOn(mem.Crash(rnd), opts, 2)
			if err != nil {
				failf("opening the store after a power failure: %v", err)
			}
			after := map[string]string{}
			for c, err := range partd.Scan(ctx, newLayer(t, f)) {
				if err != nil {
					failf("Scan after a power failure: %v", err)
				}
				after[c.Key] += string(c.Data)
			}
			if !maps.Equal(after, got) {
				failf("after a power failure, %s", diffValues(after, got))
			}
			if err := f.Close(); err != nil {
				failf("Close after a power failure: %v", err)
			}
		}
	} else if !syncFailed {
		failf("Sync: %v", syncErr)
	}
	if err := partd.Close(ctx, store); err != nil && !syncFailed {
		failf("Close: %v", err)
	}
	return fault.calls >= firstCall
}

func keysOf(models []map[string]string) map[string]bool {
	keys := map[string]bool{}
	for i := range 12 {
		keys[fmt.Sprint("k", i)] = true
	}
	for _, m := range models {
		for k := range m {
			keys[k] = true
		}
	}
	return keys
}

func diffValues(got, want map[string]string) string {
	for k := range keysOf([]map[string]string{got, want}) {
		if got[k] != want[k] {
			return fmt.Sprintf("key %q has %d bytes, want %d", k, len(got[k]), len(want[k]))
		}
	}
	return "all values are equal"
}
