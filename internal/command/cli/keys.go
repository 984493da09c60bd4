package cli

import (
	"bufio"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
)

func newKeys(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys [flags]",
		Short: "List the keys and the sizes of their values",
		Long: `List the keys in the store's order, one per line: the key, a tab, and the number
of bytes of its value. A key is written as a quoted Go string if it is empty,
has control characters, is not UTF-8, or begins with a quote.

With --json the output is JSON lines: an object {"key":…,"bytes":…} for each
key, or {"key_base64":…,"bytes":…} if the key is not UTF-8.`,
		Example: `  partd keys
  partd keys | sort -t "$(printf '\t')" -k2,2nr | head
  partd keys --store log:photos --json`,
	}
	url, asJSON := storeFlag(cmd), jsonFlag(cmd, "write JSON lines, one object per key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withReading(cmd.Context(), *url, func(store partd.Partd) error {
			w := bufio.NewWriterSize(a.out, 64<<10)
			enc := cliutil.NewEncoder(w)
			for info, err := range partd.Keys(cmd.Context(), store) {
				if err == nil && *asJSON {
					err = enc.Encode(keyJSON(info))
				} else if err == nil {
					_, err = fmt.Fprintf(w, "%s\t%d\n", keyText(info.Key), info.Size)
				}
				if err != nil {
					return err
				}
			}
			return w.Flush()
		})
	}
	return cmd
}

// keyText returns a key in a printable form, quoted if necessary.
func keyText(key string) string {
	if !cliutil.IsPrintable(key) || key[0] == '"' {
		return strconv.Quote(key)
	}
	return key
}

type keyRecord struct {
	Key       *string `json:"key,omitempty"`
	KeyBase64 []byte  `json:"key_base64,omitempty"`
	Bytes     int64   `json:"bytes"`
}

func keyJSON(info partd.KeyInfo) keyRecord {
	if utf8.ValidString(info.Key) {
		return keyRecord{Key: &info.Key, Bytes: info.Size}
	}
	return keyRecord{KeyBase64: []byte(info.Key), Bytes: info.Size}
}
