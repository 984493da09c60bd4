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
		Long: `Remove keys with their values, all or none, without asking. A key that does not
exist is no error.`,
		Example: `  partd delete Texas
  partd delete --store log:photos cat dog`,
	}
	return keysCommand(cmd, openExisting, func(ctx context.Context, store partd.Partd, keys []string) error {
		return partd.Delete(ctx, store, keys...)
	})
}

func newDrop(_ *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drop [flags]",
		Short: "Remove everything that a store holds",
		Long: `Remove every key of a store, without asking. The store must exist; a directory
that is not a store is left alone.

The store itself stays, empty, and can be filled again: of log:DIR the directory
with the files MANIFEST, MANIFEST.spare (16 KiB, so that a store can be dropped
when the disk is full) and LOCK, of file:DIR the directory with the file .lock.
"rm -r DIR" removes these, too, once no program uses them.`,
		Example: `  partd drop
  partd drop --store log:photos`,
	}
	url := storeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withStore(cmd.Context(), *url, openExisting, func(store partd.Partd) error {
			if err := store.Drop(cmd.Context()); err != nil {
				return fmt.Errorf("drop %s: %w", *url, err)
			}
			return nil
		})
	}
	return cmd
}
