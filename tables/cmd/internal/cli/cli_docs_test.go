package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestDocsPython checks that the Python programs in the docs run as printed, except for the port.
func TestDocsPython(t *testing.T) {
	httpPort := nettest.FreePort(t)
	_, u := startServer(t, "--listen", "grpc://localhost:0", "--http", "localhost:"+httpPort, "--dir", t.TempDir())
	dir := t.TempDir()
	must.Do(t, os.WriteFile(filepath.Join(dir, "token"), []byte("unused\n"), 0o600))
	for _, c := range []struct{ peer, file, blockStart, blockEnd, setup, epilogue, want string }{
		{
			"shoots", "flight.md", "    from shoots import", "\n\nshoots' flags", "import pandas as pd\ndf = pd.DataFrame({'price': [5.0, 15.0]})\n",
			"print(df.price.tolist())", "[15.0]\n",
		},
		{
			"pyarrow", "flight.md", "    import pyarrow.flight as flight\n", "\n\nActions take", "import pyarrow as pa\ntable = pa.table({'price': [25.0]})\n",
			"print(table['price'].to_pylist())", "[5.0, 15.0, 25.0]\n",
		},
		{"adbc", "flightsql.md", "import adbc_driver_flightsql.dbapi as flightsql", "```", "", "", "pyarrow.Table\nsym: string\n----\nsym: [[\"B\"]]\n"},
		{"influx", "line-protocol.md", "from datetime import", "```", "", "print('written')", "written\n"},
	} {
		t.Run(c.peer, func(t *testing.T) {
			text := must.Get(os.ReadFile(filepath.Join("..", "..", "..", "docs", c.file)))(t)
			_, rest, hasStart := strings.Cut(string(text), c.blockStart)
			program, _, hasEnd := strings.Cut(rest, c.blockEnd)
			if !hasStart || !hasEnd {
				t.Fatalf("%s has no %q", c.file, c.blockStart)
			}
			block := strings.NewReplacer("8081", u.Port(), "9090", httpPort).Replace(c.blockStart + program)
			if strings.HasPrefix(block, "    ") {
				block = strings.TrimPrefix(strings.ReplaceAll(block, "\n    ", "\n"), "    ")
			}
			cmd := exec.CommandContext(t.Context(), procs.Python(t, c.peer), "-c", c.setup+block+"\n"+c.epilogue)
			cmd.Dir = dir
			cmd.Stderr = t.Output()
			if out, err := cmd.Output(); err != nil || string(out) != c.want {
				t.Errorf("got output %q, error %v, want %q\n%s", out, err, c.want, block)
			}
		})
	}
}
