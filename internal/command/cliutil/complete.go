package cliutil

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// Complete registers the values that shell completion offers for a flag.
func Complete(cmd *cobra.Command, flag string, values ...string) {
	Must(cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
}

// Must panics if err is not nil. It is for calls that fail only if a flag does not exist.
func Must(err error) {
	if err != nil {
		panic(err) // a bug
	}
}

// NewEncoder returns a JSON encoder that does not escape <, > and &.
func NewEncoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}

// IsPrintable reports whether text is not empty and can be typed on one line in a shell.
func IsPrintable(text string) bool {
	notPrintable := func(r rune) bool { return !unicode.IsPrint(r) }
	return text != "" && utf8.ValidString(text) && !strings.ContainsFunc(text, notPrintable)
}

// NewCompletion returns the command that writes a shell's completion script. subject names the words
// that the script completes, such as "flags".
func NewCompletion(out io.Writer, subject string) *cobra.Command {
	var install bool
	cmd := &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "Write a script that completes " + subject + " in a shell",
		Args:      CheckArgCount(1, 1, "the name of the shell"),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var script bytes.Buffer
			if err := completionScript(&script, cmd.Root(), args[0]); err != nil {
				return err
			}
			if install {
				return installCompletion(out, args[0], cmd.Root().Name(), script.Bytes())
			}
			_, err := out.Write(script.Bytes())
			return err
		},
	}
	cmd.Flags().BoolVar(&install, "install", false, "write the script to the directory that your shell reads (bash, zsh, fish) and print its path")
	return cmd
}

func completionScript(w io.Writer, root *cobra.Command, shell string) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(w, true)
	case "zsh":
		return root.GenZshCompletion(w)
	case "fish":
		return root.GenFishCompletion(w, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(w)
	}
	return Usagef("unknown shell %q: use bash, zsh, fish or powershell", shell)
}

// installCompletion writes a completion script to the user's directory for such scripts. It never
// changes files that users edit, such as ~/.zshrc.
func installCompletion(out io.Writer, shell, program string, script []byte) error {
	home, err := os.UserHomeDir()
	if err != nil {
		return fmt.Errorf("cannot determine the directory for the script: %w", err)
	}
	data := cmp.Or(os.Getenv("XDG_DATA_HOME"), filepath.Join(home, ".local", "share"))
	next := "new shells complete " + program
	var file string
	switch shell {
	case "bash":
		dir := filepath.Join(data, "bash-completion")
		if dirs := filepath.SplitList(os.Getenv("BASH_COMPLETION_USER_DIR")); len(dirs) > 0 {
			dir = dirs[0]
		}
		file = filepath.Join(dir, "completions", program)
		next += ", if the package bash-completion is installed"
	case "zsh":
		dir := filepath.Join(data, "zsh", "site-functions")
		file = filepath.Join(dir, "_"+program)
		next += fmt.Sprintf(", once ~/.zshrc has this line before compinit: fpath=(%q $fpath)", dir)
	case "fish":
		file = filepath.Join(cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "fish", "completions", program+".fish")
	default:
		return Usagef("--install is for bash, zsh and fish; for %s, add the line in --help to its profile", shell)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, script, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "wrote %s: %s\n", file, next)
	return err
}
