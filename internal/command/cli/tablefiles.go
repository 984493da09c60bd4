package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/command/cliutil"
)

// tableProgram is the program that reads Parquet and Arrow files.
const tableProgram = "partd-tables"

func isTableFile(name string) bool {
	return slices.Contains([]string{".parquet", ".pq", ".arrow", ".feather", ".arrows", ".ipc"}, strings.ToLower(filepath.Ext(name)))
}

// runsTables makes cmd run the command of the same name in partd-tables if an argument is a Parquet or Arrow file. flags
// maps cmd's flags to their names in partd-tables. Flags that are not in flags are refused.
func runsTables(cmd *cobra.Command, flags map[string]string) {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		i := slices.IndexFunc(args, isTableFile)
		if i < 0 {
			return run(cmd, args)
		}
		line := []string{tableProgram, cmd.Name()}
		var err error
		cmd.Flags().Visit(func(f *pflag.Flag) {
			name, isKnown := flags[f.Name]
			switch {
			case !isKnown && !cliutil.IsFromVariable(f) && err == nil:
				err = cliutil.Usagef("--%s does not apply to %s, which is read by %s: its command %s has no such flag", f.Name, args[i], tableProgram, cmd.Name())
			case name != "":
				line = append(line, "--"+name+"="+f.Value.String())
			}
		})
		if err != nil {
			return err
		}
		path, err := tablesPath()
		if err != nil {
			return fmt.Errorf("%s: only %s reads this format, and it is neither next to this program nor on the PATH: see docs/install.md: %w", args[i], tableProgram, err)
		}
		return replaceProcess(path, append(append(line, "--"), args...))
	}
}

// tablesPath returns the path of partd-tables, which is next to this program or on the PATH.
func tablesPath() (string, error) {
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), tableProgram)); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(tableProgram)
}
