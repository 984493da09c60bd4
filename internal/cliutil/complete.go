package cliutil

import (
	"io"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// Complete makes the shell complete the values of a flag.
func Complete(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // there is no such flag: the program is wrong
	}
}

// Plain reports whether a shell can be given a text as one line.
func Plain(text string) bool {
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return text != "" && utf8.ValidString(text)
}

// NewCompletion is the command that writes a script for a shell, which completes
// what the caller says.
func NewCompletion(out io.Writer, what string) *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "Write a script that completes " + what + " in a shell",
		Args:      Takes(1, 1, "the name of the shell"),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return Usagef("unknown shell %q: there are bash, zsh, fish, powershell", args[0])
		},
	}
}
