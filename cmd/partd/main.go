// Command partd splits large files into a store of bytes under keys, and reads
// such stores. See "partd --help".
package main

import (
	"os"

	"github.com/go-partd/partd/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:]))
}
