package objstore

import (
	"flag"
	"io"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/partdtest"
)

var abilities = []partdtest.Ability{
	partdtest.CanSet, partdtest.CanDelete, partdtest.CanList, partdtest.CanOpen, partdtest.CanScan,
	partdtest.CanFlush, partdtest.CanSync, partdtest.CanStat, partdtest.CanClose,
}

func byteHash(key string) uint64 {
	var h uint64
	for i := range len(key) {
		h = h*31 + uint64(key[i])
	}
	return h << 56
}

func open(t testing.TB, b Bucket, o Options) *Store {
	t.Helper()
	if o.Memory == 0 {
		o.Memory = MinMemory
	}
	s := must.Get(Open(t.Context(), b, &o))(t)
	return s
}

func TestKeepsPromises(t *testing.T) {
	for _, c := range []struct {
		name string
		opts Options
		disk bool
	}{
		{"memory", Options{}, false},
		{"directory", Options{}, true},
		{"nothing inline", Options{hooks: hooks{maxInline: -1, rangeBytes: 64}}, false},
		{"small segments", Options{SegmentSize: 72 << 10, hooks: hooks{maxInline: -1, rangeBytes: 1 << 10}}, false},
		{"8-bit hash", Options{SegmentSize: 72 << 10, hooks: hooks{maxInline: 100, rangeBytes: 1 << 10, keyHash: byteHash}}, false},
		{"disk", Options{Disk: 1 << 30, hooks: hooks{alwaysRegroup: true}}, true},
		{"disk, small segments", Options{Disk: 1 << 30, SegmentSize: 72 << 10, hooks: hooks{maxInline: -1, rangeBytes: 1 << 10, alwaysRegroup: true}}, false},
		{"disk, 8-bit hash", Options{Disk: 1 << 30, SegmentSize: 72 << 10, hooks: hooks{maxInline: 100, keyHash: byteHash, alwaysRegroup: true}}, false},
		{"four hashes", Options{hooks: hooks{keyHash: func(key string) uint64 { return byteHash(key)>>62<<62 | 0x123456789abcdef0 }}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			buckets := map[partd.Partd]Bucket{}
			openTracked := func(t *testing.T, b Bucket) partd.Partd {
				s := open(t, b, c.opts)
				buckets[s] = b
				return s
			}
			opts := &partdtest.Options{
				Require: abilities, InternalNames: []string{"STORE", logName(0), "seg/00/x"},
				Reopen: func(t *testing.T, s partd.Partd) partd.Partd {
					must.Do(t, s.(*Store).Close())
					return openTracked(t, buckets[s])
				},
			}
			newStore := func(t *testing.T) partd.Partd {
				if !c.disk {
					return openTracked(t, new(Memory))
				}
				d := must.Get(OpenDirectory(t.TempDir()))(t)
				return openTracked(t, d)
			}
			if c.disk {
				opts.MachineRuns = 10
			} else if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
				opts.MachineRuns = 20
			}
			partdtest.Run(t, newStore, opts)
		})
	}
}

// Store must implement all these interfaces.
var _ interface {
	partd.Partd
	partd.Setter
	partd.Deleter
	partd.Lister
	partd.Opener
	partd.Scanner
	partd.PartScanner
	partd.Statter
	partd.Flusher
	partd.Syncer
	partd.Checker
	partd.MemoryUser
	io.Closer
} = (*Store)(nil)
