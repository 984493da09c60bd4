package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
)

func newDelete(_ *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete [flags] [--] KEY…",
		Short: "Remove keys and their values",
		Long: `Remove keys with their values, all or none. A key that does not exist is no
error. Nothing is asked.`,
		Example: `  partd delete Texas
  partd delete --store log:photos cat dog`,
		Args: cliutil.Takes(1, -1, "KEY"),
	}
	url, coded := storeFlag(cmd), base64Flag(cmd.Flags())
	cmd.ValidArgsFunction = completeKeys(url, coded)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		keys, err := keysOf(args, *coded)
		if err != nil {
			return err
		}
		store, err := openExisting(cmd.Context(), *url)
		if err != nil {
			return err
		}
		defer closeStore(cmd.Context(), store, &err)
		return partd.Delete(cmd.Context(), store, keys...)
	}
	return cmd
}

func newDrop(_ *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drop [flags]",
		Short: "Remove everything that a store holds",
		Long: `Remove every key of a store. Nothing is asked. The store has to exist, and a
directory that is not a store is left alone.

The store itself stays, empty, and can be filled again: of log:DIR the directory
with the files MANIFEST, MANIFEST.spare (16 KiB, so that a store can be dropped
when the disk is full) and LOCK, of file:DIR the directory with the file .lock.
"rm -r DIR" removes these, too, once no program uses them.`,
		Example: `  partd drop
  partd drop --store log:photos`,
		Args:              cliutil.Takes(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	url := storeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		store, err := openExisting(cmd.Context(), *url)
		if err != nil {
			return err
		}
		defer closeStore(cmd.Context(), store, &err)
		if err := store.Drop(cmd.Context()); err != nil {
			return fmt.Errorf("drop %s: %w", *url, err)
		}
		return nil
	}
	return cmd
}
