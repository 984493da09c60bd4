// Command man writes a manual page for each command of partd, partd-server and partd-tables into a directory, such as
// partd-group.1.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/go-partd/partd/internal/command/cli"
	"github.com/go-partd/partd/internal/command/servercli"
	tables "github.com/go-partd/partd/tables/internal/cli"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: man DIR")
		os.Exit(2)
	}
	for _, root := range []*cobra.Command{cli.Root(), servercli.Root(), tables.Root()} {
		if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "partd"}, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
