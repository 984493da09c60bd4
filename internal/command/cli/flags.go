package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/command/cliutil"
)

const (
	defaultMemory = 256 << 20
	minMemory     = 16 << 20
	maxForLog     = 8 << 30 // maximum memory for a log store
)

func storeFlag(cmd *cobra.Command) *string {
	return urlFlag(cmd, "store", defaultStore, "`URL` of the store")
}

func urlFlag(cmd *cobra.Command, name, value, usage string) *string {
	flag := cmd.Flags().String(name, value, usage)
	cliutil.Must(cmd.RegisterFlagCompletionFunc(name, completeStore))
	return flag
}

func memoryFlag(flags *pflag.FlagSet) *cliutil.Size {
	s := &cliutil.Size{Bytes: defaultMemory, Min: minMemory}
	flags.Var(s, "memory", "limit the memory to this `SIZE`, at least 16MiB; the actual use may exceed it by 10% plus 30MiB")
	return s
}

func base64Flag(flags *pflag.FlagSet) *bool {
	return flags.Bool("base64", false, "read keys as base64, which \"keys --json\" writes for keys that are not text")
}

func jsonFlag(cmd *cobra.Command, usage string) *bool {
	return cmd.Flags().Bool("json", false, usage)
}

// limitMemory limits the heap and returns options that give a store and its layers three quarters
// of the memory. The last quarter is for the input and a record of maximum length. It also leaves
// room for garbage, so that the garbage collector does not run all the time.
func limitMemory(memory int64, rawURL string) map[string]string {
	cliutil.LimitHeap(memory)
	return map[string]string{"memory": fmt.Sprint(storeShare(memory, rawURL))}
}

// storeShare returns the value of the "memory" option for a store and for each of its layers.
func storeShare(memory int64, rawURL string) int64 {
	share := memory / 4 * 3
	prefix, _, _ := strings.Cut(rawURL, ":")
	if scheme, _ := cliutil.SplitURL(rawURL); scheme == "log" {
		share = min(share/int64(1+strings.Count(prefix, "buffer+")), maxForLog)
	}
	return share
}
