package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/command/cliutil"
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
	flags.Var(s, "memory", "use up to this `SIZE` of memory, 16MiB or more, plus a tenth of it and 30MiB")
	return s
}

func base64Flag(flags *pflag.FlagSet) *bool {
	return flags.Bool("base64", false, "read keys as base64, which \"keys --json\" writes for keys that are not text")
}

func jsonFlag(cmd *cobra.Command, usage string) *bool {
	return cmd.Flags().Bool("json", false, usage)
}
