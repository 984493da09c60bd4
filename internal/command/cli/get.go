package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

func newGet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get [flags] [--] KEY…",
		Short: "Write the values of keys",
		Long: `Write the values of the keys to standard output, unchanged, in the given order,
and with nothing between them. A key that the store does not have is not an
error: its value is empty, and a note says so.`,
		Example: `  partd get California
  partd get --store log:photos cat > cat.jpg
  partd get -- -starts-with-a-dash`,
	}
	return keysCommand(cmd, withReading, func(ctx context.Context, store partd.Partd, keys []string) error {
		buf := make([]byte, 1<<20)
		for _, key := range keys {
			n, err := copyValue(ctx, a.out, store, key, buf)
			if err != nil {
				return err
			}
			if n == 0 {
				fmt.Fprintf(a.errOut, "partd: note: the store has no value for the key %q\n", key)
			}
		}
		return nil
	})
}

// keysCommand sets up the flags, completion and RunE of a command whose arguments are keys in a
// store. withStore opens the store, calls its function and closes the store.
func keysCommand(cmd *cobra.Command, withStore func(context.Context, string, func(partd.Partd) error) error,
	handle func(context.Context, partd.Partd, []string) error,
) *cobra.Command {
	url, base64Keys := storeFlag(cmd), base64Flag(cmd.Flags())
	cmd.ValidArgsFunction = completeKeys(url, base64Keys)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		keys, err := keysOf(args, *base64Keys)
		if err != nil {
			return err
		}
		return withStore(cmd.Context(), *url, func(store partd.Partd) error { return handle(cmd.Context(), store, keys) })
	}
	return cmd
}

func copyValue(ctx context.Context, w io.Writer, store partd.Partd, key string, buf []byte) (size int64, err error) {
	r, err := partd.Open(ctx, store, key)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		if err := canceled.Err(ctx); err != nil {
			return size, err
		}
		n, readErr := r.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			return size, err
		}
		size += int64(n)
		if readErr == io.EOF {
			return size, nil
		} else if readErr != nil {
			return size, readErr
		}
	}
}
