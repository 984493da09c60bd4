package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
)

func newDelete(_ *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete [flags] [--] KEY…",
		Short: "Remove keys and their values",
		Long: `Remove keys with their values: either all of them or none. There is no
confirmation. A key that does not exist is not an error.`,
		Example: `  partd delete Texas
  partd delete --store log:photos cat dog`,
	}
	return keysCommand(cmd, withExisting, func(ctx context.Context, store partd.Partd, keys []string) error {
		return partd.Delete(ctx, store, keys...)
	})
}

func newDrop(_ *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drop [flags]",
		Short: "Remove all keys from a store",
		Long: `Remove every key from a store. There is no confirmation. The store must exist; a
directory that is not a store is left unchanged.

The empty store remains and can be filled again. It still has some files:
MANIFEST, MANIFEST.spare (16 KiB, so that a store can be dropped when the disk
is full) and LOCK in the directory of log:DIR, or .lock in that of file:DIR. To
remove these as well, run "rm -r DIR" when no program uses the store.`,
		Example: `  partd drop
  partd drop --store log:photos`,
	}
	url := storeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withExisting(cmd.Context(), *url, func(store partd.Partd) error {
			if err := store.Drop(cmd.Context()); err != nil {
				return fmt.Errorf("drop %s: %w", *url, err)
			}
			return nil
		})
	}
	return cmd
}
