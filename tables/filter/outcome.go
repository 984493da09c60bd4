package filter

// outcomes is what a condition may come to, of a row one of these, and of many rows
// all that occur. Logic has SQL's three values.
type outcomes uint8

const (
	holds outcomes = 1 << iota
	fails
	unknown // it was compared with a null
)

// both returns what a and b may come to, together.
func both(a, b outcomes) outcomes {
	out := a&b&holds | (a|b)&fails
	if a&unknown != 0 && b&(holds|unknown) != 0 || b&unknown != 0 && a&holds != 0 {
		out |= unknown
	}
	return out
}

// not returns what the opposite of a may come to.
func not(a outcomes) outcomes { return a&holds<<1 | a&fails>>1 | a&unknown }

// Of two values one may be less, equal or greater, or one of them is a NaN.
const (
	less = iota
	same
	greater
	unordered
)

// after are the outcomes of the comparisons.
var after = map[operator][4]outcomes{
	opEq: {fails, holds, fails, fails}, opNe: {holds, fails, holds, holds},
	opLt: {holds, fails, fails, fails}, opLe: {holds, holds, fails, fails},
	opGt: {fails, fails, holds, fails}, opGe: {fails, holds, holds, fails},
}

// outcomes returns what a node comes to, of as many rows, or groups of rows, as leaf
// returns for each comparison.
func (n *boundNode) outcomes(leaf func(*boundNode) ([]outcomes, error)) ([]outcomes, error) {
	if len(n.parts) == 0 {
		return leaf(n)
	}
	all, err := n.parts[0].outcomes(leaf)
	if err != nil {
		return nil, err
	}
	if n.op == opNot {
		for i, a := range all {
			all[i] = not(a)
		}
		return all, nil
	}
	for _, part := range n.parts[1:] {
		more, err := part.outcomes(leaf)
		if err != nil {
			return nil, err
		}
		for i, b := range more {
			if n.op == opAnd {
				all[i] = both(all[i], b)
			} else {
				all[i] = not(both(not(all[i]), not(b)))
			}
		}
	}
	return all, nil
}
