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
		Short: "Show the number of keys, of bytes, and the largest keys",
		Long: `Show how many keys and bytes a store holds, how many bytes its files take on
disk, and its largest keys.`,
		Example: `  partd stat
  partd stat --top 50 --store log:photos
  partd stat --json`,
		Args:              cliutil.Takes(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	url, asJSON := storeFlag(cmd), jsonFlag(cmd, "write one JSON object")
	top := cmd.Flags().Int("top", 10, "show the `N` largest keys")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if *top < 0 {
			return cliutil.Usagef("--top is %d, and cannot be negative", *top)
		}
		store, err := openReading(cmd.Context(), *url)
		if err != nil {
			return err
		}
		defer closeStore(cmd.Context(), store, &err)
		stats, err := partd.Stat(cmd.Context(), store)
		if err != nil {
			return err
		}
		keys, err := largest(cmd.Context(), store, *top)
		if err != nil {
			return err
		}
		return show(a.out, *asJSON, statRecord{stats.Keys, stats.Bytes, stats.Disk, keysJSON(keys)}, func(w io.Writer) {
			fmt.Fprintf(w, "store  %s\nkeys   %d\nbytes  %s\n", *url, stats.Keys, withUnit(stats.Bytes))
			if stats.Disk > 0 {
				fmt.Fprintf(w, "disk   %s\n", withUnit(stats.Disk))
			}
			if len(keys) > 0 {
				fmt.Fprintln(w, "\nlargest keys")
				chart(w, keys, width(a.out))
			}
		})
	}
	return cmd
}

type statRecord struct {
	Keys    int64       `json:"keys"`
	Bytes   int64       `json:"bytes"`
	Disk    int64       `json:"disk"`
	Largest []keyRecord `json:"largest"`
}

func keysJSON(keys []partd.KeyInfo) []keyRecord {
	records := make([]keyRecord, len(keys))
	for i, k := range keys {
		records[i] = keyJSON(k)
	}
	return records
}

// largest returns the n largest keys of a store, largest first, those of one
// size by name.
func largest(ctx context.Context, store partd.Partd, n int) ([]partd.KeyInfo, error) {
	var top []partd.KeyInfo
	if n == 0 {
		return nil, nil
	}
	for info, err := range partd.Keys(ctx, store) {
		if err != nil {
			return nil, err
		}
		if len(top) == n && larger(top[n-1], info) <= 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(top, info, larger)
		top = slices.Insert(top, at, info)
		top = top[:min(len(top), n)]
	}
	return top, nil
}

// larger orders keys by size, largest first, then by name.
func larger(a, b partd.KeyInfo) int {
	return cmp.Or(cmp.Compare(b.Size, a.Size), strings.Compare(a.Key, b.Key))
}
