package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/storekit"
)

const scanHelp = `Write every key with its value, in the store's order, as JSON lines:

  {"key":…,"offset":0,"value_base64":…,"last":true}

A value of more than 1 MiB is written as several lines, each with the offset of
its first byte; "last" is true in the last line. A key that is not UTF-8 is
written as "key_base64", as in "keys --json". With --values only the values are
written, unchanged and with nothing between them.

--part I/N lets several processes share the work of reading a store: it writes
only part I of N, with I from 0 to N-1. While the store does not change, each key
is in exactly one part. Which part that is depends on the store and on N.`

func newScan(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scan [flags]",
		Short: "Write all keys with their values, or a part of them",
		Long:  scanHelp,
		Example: `  partd scan | head -n 3
  partd scan --values | wc -l
  partd scan --store tcp://127.0.0.1:7077 --part 0/4  # and 1/4, 2/4, 3/4`,
	}
	url, when := storeFlag(cmd), cliutil.ProgressFlag(cmd)
	partText := cmd.Flags().String("part", "0/1", "write only part I of N, given as `I/N`, with I from 0 to N-1")
	cliutil.Must(cmd.RegisterFlagCompletionFunc("part", cobra.NoFileCompletions))
	values := cmd.Flags().Bool("values", false, "write only the values, unchanged")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		part, parts, err := parsePart(*partText)
		if err == nil {
			err = cliutil.CheckProgress(*when)
		}
		if err != nil {
			return err
		}
		// On a terminal, progress and output would overwrite each other.
		show := cliutil.ShowsProgress(*when, a.errOut) && (*when == "always" || !progress.IsTerminal(a.out))
		return withReading(cmd.Context(), *url, func(store partd.Partd) error {
			w := bufio.NewWriterSize(a.out, 64<<10)
			write := (&lineWriter{enc: cliutil.NewEncoder(w), data: make([]byte, 0, 64<<10)}).add
			if *values {
				write = func(c partd.Chunk) error { _, err := w.Write(c.Data); return err }
			}
			if err := scan(cmd.Context(), store, part, parts, progress.Start(a.errOut, show), show, write); err != nil {
				return err
			}
			return w.Flush()
		})
	}
	return cmd
}

// parsePart parses I/N, the value of --part.
func parsePart(text string) (part, parts int, err error) {
	first, second, _ := strings.Cut(text, "/")
	part, err1 := strconv.Atoi(first)
	parts, err2 := strconv.Atoi(second)
	if err1 != nil || err2 != nil || storekit.CheckPart(part, parts) != nil {
		return 0, 0, cliutil.Usagef("--part must be I/N, such as 0/4, with N from 1 to %d and I from 0 to N-1, not %q", partd.MaxParts, text)
	}
	return part, parts, nil
}

func scan(ctx context.Context, store partd.Partd, part, parts int, bar *progress.Bar, show bool, write func(partd.Chunk) error) error {
	defer bar.Stop()
	var done atomic.Int64
	if total := int64(-1); show {
		if parts == 1 {
			bar.Wait("checking the store", nil)
			total = sizeOf(ctx, store)
		}
		bar.Count(total, done.Load)
	}
	for chunk, err := range partd.ScanPart(ctx, store, part, parts) {
		if err == nil {
			err = write(chunk)
		}
		if err != nil {
			return err
		}
		done.Add(int64(len(chunk.Data)))
	}
	return nil
}

type scanRecord struct {
	Key         *string `json:"key,omitempty"`
	KeyBase64   []byte  `json:"key_base64,omitempty"`
	Offset      int64   `json:"offset"`
	ValueBase64 []byte  `json:"value_base64"`
	Last        bool    `json:"last"`
}

// maxScanLine is the maximum number of bytes of a value in one line.
const maxScanLine = 1 << 20

// lineWriter writes chunks as JSON lines. It divides a value after each maxScanLine bytes, regardless
// of the sizes of the chunks.
type lineWriter struct {
	enc    *json.Encoder
	offset int64  // offset of data in the value
	data   []byte // bytes not yet written
}

func (l *lineWriter) add(c partd.Chunk) error {
	if c.Offset == 0 {
		l.offset, l.data = 0, l.data[:0]
	}
	data := c.Data
	for len(l.data)+len(data) > maxScanLine {
		n := maxScanLine - len(l.data)
		l.data, data = append(l.data, data[:n]...), data[n:]
		if err := l.line(c.Key, false); err != nil {
			return err
		}
	}
	l.data = append(l.data, data...)
	if c.Last {
		return l.line(c.Key, true)
	}
	return nil
}

func (l *lineWriter) line(key string, last bool) error {
	k := keyJSON(partd.KeyInfo{Key: key})
	r := scanRecord{k.Key, k.KeyBase64, l.offset, l.data, last}
	l.offset += int64(len(l.data))
	l.data = l.data[:0]
	return l.enc.Encode(r)
}
