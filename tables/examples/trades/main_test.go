package main

import (
	"bytes"
	"testing"
)

func TestExample(t *testing.T) {
	const want = `AAPL: 100 trades at 101.12
BRK.B: 100 trades at 101.12
MSFT: 100 trades at 101.12
XOM: 100 trades at 101.12
trade 7 now: AAPL at 99.50
trade 7 in the snapshot: AAPL at 101.75
trade 7 before the correction: AAPL at 101.75
`
	var out bytes.Buffer
	if err := run(t.Context(), &out, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("run printed\n%s\nwant\n%s", &out, want)
	}
}
