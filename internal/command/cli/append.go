package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/storekit"
	"github.com/go-partd/partd/stores"
)

func newAppend(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "append [flags] [--] KEY [FILE]",
		Short: "Append a file to the value of a key",
		Long: `Append the bytes of FILE, or of standard input, to the value of KEY: either all
of them or none. They must fit in a quarter of --memory. A missing store is
created. Appending an empty file does not create the key.`,
		Example: `  echo hello | partd append greetings
  partd append --store log:photos cat cat.jpg`,
	}
	url, memory, base64Keys := storeFlag(cmd), memoryFlag(cmd.Flags()), base64Flag(cmd.Flags())
	keys := completeKeys(url, base64Keys)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault // complete file names
		}
		return keys(cmd, args, prefix)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		keys, err := keysOf(args[:1], *base64Keys)
		if err != nil {
			return err
		}
		if _, err := storeExists(cmd.Context(), "store", *url); err != nil {
			return err
		}
		file := a.in
		if len(args) == 2 && args[1] != "-" {
			file, err = vfs.OpenFile(cmd.Context(), args[1], os.O_RDONLY)
			if err != nil {
				return err
			}
			defer file.Close()
		}
		options := limitMemory(memory.Bytes, *url)
		value, err := readFile(cmd.Context(), file, filejobs.Memory(memory.Bytes).MaxRecord())
		if err != nil {
			return err
		}
		store, err := a.open(cmd.Context(), *url, options)
		if err != nil {
			return err
		}
		defer closeStore(cmd.Context(), store, &err)
		return store.Append(cmd.Context(), partd.Entry{Key: keys[0], Value: value})
	}
	return cmd
}

// readFile reads a file. It returns an error if the file is longer than limit bytes.
func readFile(ctx context.Context, file *os.File, limit int) ([]byte, error) {
	if info, err := file.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory: name a file", file.Name())
	}
	data, err := canceled.Run(ctx, func() ([]byte, error) { // a read from a terminal ignores ctx
		var data bytes.Buffer
		if fi, err := file.Stat(); err == nil && fi.Mode().IsRegular() && fi.Size() <= int64(limit) {
			data.Grow(int(fi.Size()) + bytes.MinRead)
		}
		_, err := io.Copy(&data, io.LimitReader(file, int64(limit)+1))
		return data.Bytes(), err
	})
	if err == nil && len(data) > limit {
		return nil, fmt.Errorf("%s is larger than %s, the limit for one append (a quarter of --memory): "+
			"increase --memory, or append it in parts", file.Name(), stores.FormatSize(int64(limit)))
	}
	return data, err
}

// keysOf returns the keys in a command's arguments, which are base64 if base64Keys is true.
func keysOf(args []string, base64Keys bool) ([]string, error) {
	keys := make([]string, len(args))
	for i, arg := range args {
		keys[i] = arg
		if base64Keys {
			key, err := base64.StdEncoding.DecodeString(arg)
			if err != nil {
				return nil, cliutil.Usagef("the key %q is not base64: %w", arg, err)
			}
			keys[i] = string(key)
		}
	}
	if err := storekit.CheckKeys("read the command line", keys); errors.Is(err, partd.ErrTooLarge) {
		return nil, cliutil.UsageError{Err: err}
	}
	return keys, nil
}
