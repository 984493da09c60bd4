package servercli

import (
	"context"
	"log/slog"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/cliutil/sizeflag"
	"github.com/go-partd/partd/internal/namespaces"
	"github.com/go-partd/partd/internal/space"
	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/logstore"
)

// roomFlags are how much a store may take.
type roomFlags struct {
	maxBytes, maxOfOne, minFree sizeflag.Size
	minFreeGiven                bool
}

func (f *roomFlags) add(cmd *cobra.Command) {
	f.maxBytes.Min = 1 << 20
	cmd.Flags().Var(&f.maxBytes, "max-bytes", "`SIZE` that the store may take on disk (mem: in memory); appends and sets that would take more are refused (default: all there is)")
	f.maxOfOne.Min = 1 << 20
	cmd.Flags().Var(&f.maxOfOne, "namespace-max-bytes", "`SIZE` that each namespace may take on disk, as --max-bytes for the default store (default: all there is)")
	cmd.Flags().Var(&f.minFree, "min-free", "`SIZE` to keep free on the store's disk: appends and sets that would take it are refused; 0 keeps none (default: a hundredth of the disk, at most 256MiB)")
}

// limit sets the limits of a store that was opened by a URL, for its guard, and of
// the namespaces beside it.
func (f *roomFlags) limit(ctx context.Context, storeURL string, store partd.Partd, beside *namespaces.Options, log *slog.Logger) (*space.Guard, error) {
	logged := func(measure func() (int64, error)) func() (int64, error) {
		return func() (int64, error) {
			n, err := measure()
			if err != nil {
				log.Warn("cannot measure the free room: nothing is refused for lack of it", "error", err)
			}
			return n, err
		}
	}
	l := space.Limits{MaxBytes: f.maxBytes.Bytes, Used: logged(used(ctx, store)), Pending: pending(store), GiveBack: func() { giveBack(ctx, store) }}
	beside.MaxBytes = f.maxOfOne.Bytes
	beside.Sizes = func(s partd.Partd) (disk, waiting int64, err error) {
		disk, err = used(ctx, s)()
		return disk, pending(s)(), err
	}
	beside.GiveBack = giveBack
	dir := directoryOf(storeURL)
	disk, tells := vfs.FS(vfs.OS{}).(interface {
		vfs.SpaceTeller
		Capacity(dir string) (int64, error)
	})
	if dir == "" || !tells {
		return space.New(l)
	}
	l.MinFree, l.Free = f.minFree.Bytes, logged(func() (int64, error) { return disk.Free(dir) })
	if !f.minFreeGiven {
		all, err := disk.Capacity(dir)
		if err != nil {
			return nil, err
		}
		const hundredth, most = 100, 256 << 20
		l.MinFree = min(all/hundredth, most)
	}
	beside.MinFree, beside.Free = l.MinFree, l.Free
	return space.New(l)
}

// directoryOf returns where a store has its files, and "" where it has none here.
func directoryOf(storeURL string) string {
	scheme, dir := cliutil.SplitURL(storeURL)
	if scheme != "file" && scheme != "log" {
		return ""
	}
	if dir == "" {
		_, query, _ := strings.Cut(storeURL, "?")
		options, _ := url.ParseQuery(query) // the store was opened with them
		dir = options.Get("temp")
	}
	return dir
}

// bottom returns the store beneath all layers.
func bottom(store partd.Partd) partd.Partd {
	for store = range partd.Layers(store) {
	}
	return store
}

// used returns what tells how many bytes a store takes. Only a log: knows without
// looking at each key.
func used(ctx context.Context, store partd.Partd) func() (int64, error) {
	switch s := bottom(store).(type) {
	case *logstore.Store:
		return func() (int64, error) {
			f, err := s.Figures()
			return f.Disk, err
		}
	case *partd.Dict:
		return func() (int64, error) { return s.MemoryUsed(), nil }
	default:
		return func() (int64, error) {
			st, err := partd.Stat(ctx, s)
			return st.Disk, err
		}
	}
}

// giveBack has a store free what it keeps of dead data, if it keeps any.
func giveBack(ctx context.Context, store partd.Partd) {
	if s, ok := bottom(store).(*logstore.Store); ok {
		s.Reclaim(ctx)
	}
}

// pending returns what tells how many bytes a store has taken and has yet to write to
// where they stay, nil where it writes them there at once.
func pending(store partd.Partd) func() int64 {
	var parts []func() int64
	for s := range partd.Layers(store) {
		switch s := s.(type) {
		case *partd.Buffer:
			parts = append(parts, s.MemoryUsed)
		case *logstore.Store:
			parts = append(parts, s.Unsealed)
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
