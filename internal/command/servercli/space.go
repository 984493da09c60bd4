package servercli

import (
	"context"
	"log/slog"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/command/namespaces"
	"github.com/go-partd/partd/internal/disk/space"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/storekit"
)

// minLogQuota is the smallest useful quota of a log: store, because the write-ahead file of an empty
// store already counts 1 MiB.
const minLogQuota = 2 << 20

type spaceFlags struct {
	maxBytes, namespaceMaxBytes, minFree cliutil.Size
	minFreeGiven                         bool // whether --min-free is set
}

func (f *spaceFlags) add(cmd *cobra.Command) {
	f.maxBytes.Min = 1 << 20
	cmd.Flags().Var(&f.maxBytes, "max-bytes", "`SIZE` that the store may use on disk (mem: in memory); appends and sets that would exceed it are refused (default: unlimited)")
	f.namespaceMaxBytes.Min = minLogQuota // namespaces are log: stores
	cmd.Flags().Var(&f.namespaceMaxBytes, "namespace-max-bytes", "`SIZE` that each namespace may use on disk, like --max-bytes for the default store (default: unlimited)")
	cmd.Flags().Var(&f.minFree, "min-free", "`SIZE` to keep free on the store's disk; appends and sets that would use it are refused (default: a hundredth of the disk, at most 256MiB)")
}

// newGuard returns a guard that rejects changes to store when space runs out. It also sets the limits
// for namespaces in namespaceOpts.
func (f *spaceFlags) newGuard(ctx context.Context, storeURL string, store partd.Partd, namespaceOpts *namespaces.Options, log *slog.Logger) (*space.Guard, error) {
	withWarning := func(measure func() (int64, error)) func() (int64, error) {
		return func() (int64, error) {
			n, err := measure()
			if err != nil {
				log.Warn("cannot measure the space in use: no change is refused until it can be measured", "error", err)
			}
			return n, err
		}
	}
	l := space.Limits{MaxBytes: f.maxBytes.Bytes, Used: withWarning(func() (int64, error) { return usedBytes(ctx, store) }), Pending: pendingBytes(store), Reclaim: func() { reclaimSpace(ctx, store) }}
	namespaceOpts.MaxBytes = f.namespaceMaxBytes.Bytes
	namespaceOpts.Measure = func(s partd.Partd) (disk, unwritten int64, err error) {
		disk, err = usedBytes(ctx, s)
		return disk, pendingBytes(s)(), err
	}
	namespaceOpts.Reclaim = reclaimSpace
	dir := directoryOf(storeURL)
	disk, ok := vfs.FS(vfs.OS{}).(interface {
		vfs.SpaceReporter
		Capacity(dir string) (int64, error)
	})
	if dir == "" || !ok {
		return space.New(l)
	}
	l.MinFree, l.Free = f.minFree.Bytes, withWarning(func() (int64, error) { return disk.Free(dir) })
	if !f.minFreeGiven {
		total, err := disk.Capacity(dir)
		if err != nil {
			return nil, err
		}
		const hundredth, maxReserve = 100, 256 << 20
		l.MinFree = min(total/hundredth, maxReserve)
	}
	namespaceOpts.MinFree, namespaceOpts.Free = l.MinFree, l.Free
	return space.New(l)
}

// directoryOf returns the local directory of a store's files, or "" if the store has no files.
func directoryOf(storeURL string) string {
	scheme, dir := cliutil.SplitURL(storeURL)
	if scheme != "file" && scheme != "log" {
		return ""
	}
	if dir == "" {
		_, query, _ := strings.Cut(storeURL, "?")
		options, _ := url.ParseQuery(query) // cannot fail: the store was opened with this query
		dir = options.Get("temp")
	}
	return dir
}

func usedBytes(ctx context.Context, store partd.Partd) (int64, error) {
	switch s := cliutil.BottomStore(store).(type) {
	case *logstore.Store:
		f, err := s.Metrics()
		return f.DiskBytes, err
	case *partd.Dict:
		return s.MemoryUsed(), nil
	default:
		st, err := partd.Stat(ctx, s)
		return st.Disk, err
	}
}

func reclaimSpace(ctx context.Context, store partd.Partd) {
	if s, ok := cliutil.BottomStore(store).(*logstore.Store); ok {
		_, _ = s.Reclaim(ctx) // the store logs failures
	}
}

// pendingBytes returns a function that measures the bytes that a store has accepted but not yet
// written to its final files. It returns nil if the store writes to its final files immediately.
func pendingBytes(store partd.Partd) func() int64 {
	var parts []func() int64
	for s := range storekit.Layers(store) {
		switch s := s.(type) {
		case *partd.Buffer:
			parts = append(parts, s.MemoryUsed)
		case *logstore.Store:
			parts = append(parts, s.UnsealedBytes)
		}
	}
	if parts == nil {
		return nil
	}
	return func() (n int64) {
		for _, part := range parts {
			n += part()
		}
		return n
	}
}
