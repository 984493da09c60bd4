package boot

import "testing"

func TestIDStaysTheSame(t *testing.T) {
	if a, b := ID(), ID(); a != b {
		t.Fatalf("one boot has two numbers, %d and %d", a, b)
	}
}
