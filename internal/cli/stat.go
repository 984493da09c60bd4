package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
)

func newStat(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stat [flags]",
		Short: "Show the number of keys and bytes, and the largest keys",
		Long: `Show how many keys and bytes a store holds, how many bytes its files take on
disk, and its largest keys.

With --watch it looks every second (less often if that takes long), until it is
interrupted, and shows how many bytes a second the store grows and, for a server,
how many changes a second it takes: on a terminal as one page, else as a line each
time, and with --json as one object a line.`,
		Example: `  partd stat
  partd stat --top 50 --store log:photos
  partd stat --json
  partd stat --watch --store tcp://127.0.0.1:7077`,
	}
	url, asJSON := storeFlag(cmd), jsonFlag(cmd, "write one JSON object")
	watching := cmd.Flags().Bool("watch", false, "look again every second, and show rates")
	top := cmd.Flags().Int("top", 10, "show the `N` largest keys")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *top < 0 {
			return cliutil.Usagef("--top is %d, and cannot be negative", *top)
		}
		return withStore(cmd.Context(), *url, openReading, func(store partd.Partd) error {
			if *watching {
				return (&watch{a: a, url: *url, asJSON: *asJSON, top: *top}).run(cmd.Context(), store)
			}
			stats, err := partd.Stat(cmd.Context(), store)
			if err != nil {
				return err
			}
			keys, _, err := largest(cmd.Context(), store, *top)
			if err != nil {
				return err
			}
			r := statRecord{stats.Keys, stats.Bytes, stats.Disk, keysJSON(keys), keys}
			return show(a.out, *asJSON, r, func(w io.Writer) {
				fmt.Fprintf(w, "store  %s\n", *url)
				writeStat(w, r, width(a.out))
			})
		})
	}
	return cmd
}

func writeStat(w io.Writer, r statRecord, columns int) {
	fmt.Fprintf(w, "keys   %d\nbytes  %s\n", r.Keys, withUnit(r.Bytes))
	if r.Disk > 0 {
		fmt.Fprintf(w, "disk   %s\n", withUnit(r.Disk))
	}
	if len(r.largest) > 0 {
		fmt.Fprintln(w, "\nlargest keys")
		chart(w, r.largest, columns)
	}
}

type statRecord struct {
	Keys    int64       `json:"keys"`
	Bytes   int64       `json:"bytes"`
	Disk    int64       `json:"disk"`
	Largest []keyRecord `json:"largest"`

	largest []partd.KeyInfo
}

func keysJSON(keys []partd.KeyInfo) []keyRecord {
	records := make([]keyRecord, len(keys))
	for i, k := range keys {
		records[i] = keyJSON(k)
	}
	return records
}

// largest returns the n largest keys of a store, largest first, those of one
// size by name. On the way it counts all keys and their bytes, unless n is 0.
func largest(ctx context.Context, store partd.Partd, n int) (top []partd.KeyInfo, all partd.Stats, err error) {
	if n == 0 {
		return nil, all, nil
	}
	for info, err := range partd.Keys(ctx, store) {
		if err != nil {
			return nil, all, err
		}
		all.Keys++
		all.Bytes += info.Size
		if len(top) == n && larger(top[n-1], info) <= 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(top, info, larger)
		top = slices.Insert(top, at, info)
		top = top[:min(len(top), n)]
	}
	return top, all, nil
}

// larger orders keys by size, largest first, then by name.
func larger(a, b partd.KeyInfo) int {
	return cmp.Or(cmp.Compare(b.Size, a.Size), strings.Compare(a.Key, b.Key))
}
