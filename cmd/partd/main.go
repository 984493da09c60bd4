// Command partd splits large files by key into a store and reads such stores.
// See "partd --help".
package main

import (
	"os"

	"github.com/go-partd/partd/internal/command/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:]))
}
