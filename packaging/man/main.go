// Command man writes a manual page for each command of partd, partd-server and partd-tables into a directory, such as
// partd-group.1.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/go-partd/partd/internal/command/cli"
	"github.com/go-partd/partd/internal/command/servercli"
	tables "github.com/go-partd/partd/tables/cmd/internal/cli"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: man DIR")
		os.Exit(2)
	}
	for _, root := range roots() {
		if err := writePages(root, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func roots() []*cobra.Command { return []*cobra.Command{cli.Root(), servercli.Root(), tables.Root()} }

// writePages writes the pages of a command and its subcommands into dir. SOURCE_DATE_EPOCH sets their date.
func writePages(cmd *cobra.Command, dir string) error {
	escapeTexts(cmd)
	return doc.GenManTree(cmd, &doc.GenManHeader{Section: "1", Source: cmd.Root().Name()}, dir)
}

// escapeTexts escapes the descriptions of a command and its subcommands, because cobra reads them as Markdown.
// Paragraphs with indented lines keep their lines.
func escapeTexts(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true
	escape := strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "<", `\<`, "#", `\#`, "[", `\[`, "`", "\\`")
	paragraphs := strings.Split(cmd.Long, "\n\n")
	for i, p := range paragraphs {
		if strings.HasPrefix(p, " ") || strings.Contains(p, "\n ") {
			paragraphs[i] = "```\n" + p + "\n```"
		} else {
			paragraphs[i] = escape.Replace(p)
		}
	}
	cmd.Long = strings.Join(paragraphs, "\n\n")
	for _, c := range cmd.Commands() {
		escapeTexts(c)
	}
}
