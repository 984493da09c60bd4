package tables_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestDeepFile checks that an extremely nested schema in a Parquet file causes only an error for its table, in scans
// and in Verify. Such a schema could overflow the stack of a recursive reader.
func TestDeepFile(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("one")
	ns := make([]int64, 3000)
	for i := range ns {
		ns[i] = rand.Int64()
	}
	tabletest.Put(t, b, "bad", tables.PutAppend, ns...)
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	const levels = 2000
	footer := binary.AppendUvarint([]byte("\x15\x02\x19\xfc"), levels+1)                        // the version, and the start of a list of nodes
	footer = append(footer, strings.Repeat("\x48\x01a\x15\x02\x00", levels)+"\x48\x01a\x00"...) // each node except the last has one child
	footer = append(footer, "\x16\x00\x19\x0c\x00"...)                                          // no rows, no groups
	footer = append(binary.LittleEndian.AppendUint32(footer, uint32(len(footer))), "PAR1"...)
	file := tabletest.TableFiles(t, s, "one", "bad")["data"][0]
	tabletest.Damage(t, file, func(old []byte) []byte {
		if len(old) < len(footer)+4 {
			t.Fatal("the table's file is shorter than the crafted footer")
		}
		return append(append([]byte("PAR1"), bytes.Repeat([]byte{0}, len(old)-len(footer)-4)...), footer...)
	})
	const want = "its schema has more than 256 levels at node 257 of 2001"
	if _, _, err := tabletest.Read(t.Context(), b, "bad"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("read error = %v, want %q", err, want)
	}
	db, err := sql.Open("sqlite", filepath.Join(s.Dir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // the test is over
	// Make the catalog forget the checksum, as if another program had written the file.
	if _, err := db.Exec(`DELETE FROM partd_files WHERE path='file://' || ?`, file); err != nil {
		t.Fatal(err)
	}
	if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) != 1 || findings[0].Problem != want {
		t.Errorf("Verify reported %+v, want the problem %q", findings, want)
	}
}
