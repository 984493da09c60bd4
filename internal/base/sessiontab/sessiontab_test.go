package sessiontab

import (
	"errors"
	"testing"

	"github.com/go-partd/partd/internal/base/storeerror"
)

func TestIsNext(t *testing.T) {
	last := Operation{Number: 7, CRC: 70}
	for _, c := range []struct {
		op   Operation
		want bool
		err  error
	}{
		{Operation{8, 80}, true, nil},
		{Operation{8, 70}, true, nil},
		{Operation{9, 90}, false, storeerror.ErrSessionGap},
		{Operation{7, 70}, false, nil},
		{Operation{7, 71}, false, storeerror.ErrSessionReused},
		{Operation{6, 71}, false, nil}, // its CRC is no longer known
	} {
		if got, err := last.IsNext(5, c.op); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("IsNext(5, %v) after %v = %v, %v, want %v, %v", c.op, last, got, err, c.want, c.err)
		}
	}
}

// TestTokens checks that a peer cannot guess the token of another's session: it depends on the secret and on the session.
func TestTokens(t *testing.T) {
	secret := NewSecret()
	tokens := map[[16]byte]bool{}
	for _, session := range []uint64{0, 1, 1 << 32, 1<<64 - 1} {
		tokens[NewToken(secret, session)] = true
		tokens[NewToken(NewSecret(), session)] = true
	}
	if len(secret) != SecretLen || len(tokens) != 8 || NewToken(secret, 7) != NewToken(secret, 7) {
		t.Errorf("a secret of %d bytes; %d of 8 tokens differ", len(secret), len(tokens))
	}
	if a, b := NewIncarnation(), NewIncarnation(); a == b || a>>32 == 0 || uint32(a) != 0 {
		t.Errorf("the incarnations %x and %x", a, b)
	}
}
