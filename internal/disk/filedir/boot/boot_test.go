package boot

import "testing"

func TestIDStaysTheSame(t *testing.T) {
	if a, b := ID(), ID(); a != b {
		t.Fatalf("ID returned %d, then %d", a, b)
	}
}
