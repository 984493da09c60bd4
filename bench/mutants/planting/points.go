package planting

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
)

// Mutant is a place in the source with the text that replaces it. Unless the mutant is applied, the new text behaves
// like the old one.
type Mutant struct {
	Number     int
	Kind       string
	pkg        *Package
	start, end token.Pos
	newText    string // with numberMark wherever the mutant's number belongs
}

// Place returns the file of a mutant and its first and last line.
func (m *Mutant) Place() (file string, first, last int) {
	from, to := m.pkg.files.Position(m.start), m.pkg.files.Position(m.end)
	return from.Filename, from.Line, to.Line
}

func (m *Mutant) String() string {
	return m.Kind + ": " + m.pkg.text(m.start, m.end)
}

// numberMark is a placeholder for a mutant's number, which Plant assigns. It occurs in no source file.
const numberMark = "\x00"

var swappedOperators = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.EQL: token.NEQ, token.NEQ: token.EQL, token.LAND: token.LOR, token.LOR: token.LAND,
	token.ADD: token.SUB, token.SUB: token.ADD,
}

// Mutants returns all mutants of the package.
func (p *Package) Mutants() (all []*Mutant) {
	for _, f := range p.syntax {
		var parents []ast.Node
		ast.Inspect(f, func(n ast.Node) bool {
			if n == nil {
				parents = parents[:len(parents)-1]
				return true
			}
			if d, ok := n.(*ast.GenDecl); ok && d.Tok != token.VAR {
				return false
			}
			if e, ok := n.(ast.Expr); ok && p.info.Types[e].Value != nil {
				if l, ok := e.(*ast.BasicLit); ok && len(parents) > 0 {
					all = append(all, p.offByOne(l, parents[len(parents)-1])...)
				}
				return false
			}
			all = append(all, p.mutantsOf(n, parents)...)
			parents = append(parents, n)
			return true
		})
	}
	for _, m := range all {
		m.pkg = p
	}
	return all
}

func (p *Package) mutantsOf(n ast.Node, parents []ast.Node) []*Mutant {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		return p.swappedOperator(n)
	case *ast.IfStmt:
		return []*Mutant{{Kind: "negated condition", start: n.Cond.Pos(), end: n.Cond.End(), newText: "(partdMutant == " + numberMark + ") != (" + p.text(n.Cond.Pos(), n.Cond.End()) + ")"}}
	case *ast.CallExpr:
		return p.swappedArguments(n)
	case *ast.ExprStmt, *ast.IncDecStmt, *ast.DeferStmt, *ast.GoStmt, *ast.SendStmt, *ast.AssignStmt, *ast.BranchStmt:
		if a, ok := n.(*ast.AssignStmt); ok && a.Tok == token.DEFINE {
			return nil
		}
		if b, ok := n.(*ast.BranchStmt); ok && b.Tok != token.BREAK && b.Tok != token.CONTINUE {
			return nil
		}
		// Elsewhere, such as in the header of a loop, a statement cannot be wrapped.
		switch parents[len(parents)-1].(type) {
		case *ast.BlockStmt, *ast.CaseClause, *ast.CommClause:
		default:
			return nil
		}
		if c, ok := parents[len(parents)-1].(*ast.CommClause); ok && c.Comm == n {
			return nil
		}
		return []*Mutant{{Kind: "removed statement", start: n.Pos(), end: n.End(), newText: "if partdMutant != " + numberMark + " { " + p.text(n.Pos(), n.End()) + " }"}}
	}
	return nil
}

func (p *Package) swappedOperator(e *ast.BinaryExpr) []*Mutant {
	other, ok := swappedOperators[e.Op]
	if !ok {
		return nil
	}
	x, y := p.text(e.X.Pos(), e.X.End()), p.text(e.Y.Pos(), e.Y.End())
	m := &Mutant{Kind: fmt.Sprintf("%s for %s", other, e.Op), start: e.Pos(), end: e.End()}
	if e.Op != token.ADD && e.Op != token.SUB {
		m.newText = fmt.Sprintf("(partdMutant == %[5]s && ((%[1]s) %[2]s (%[3]s)) || partdMutant != %[5]s && ((%[1]s) %[4]s (%[3]s)))", x, other, y, e.Op, numberMark)
		return []*Mutant{m}
	}
	basic, ok := p.info.TypeOf(e).Underlying().(*types.Basic)
	if !ok || basic.Info()&types.IsNumeric == 0 || hasCall(e) {
		return nil
	}
	m.newText = fmt.Sprintf("partdPick(%[5]s, (%[1]s) %[2]s (%[3]s), (%[1]s) %[4]s (%[3]s))", x, e.Op, y, other, numberMark)
	return []*Mutant{m}
}

// offByOne returns a mutant that adds 1 to an integer literal, unless its value must be constant or could overflow.
func (p *Package) offByOne(l *ast.BasicLit, parent ast.Node) []*Mutant {
	t, ok := p.info.TypeOf(l).(*types.Basic)
	if l.Kind != token.INT || !ok || t.Info()&types.IsInteger == 0 || t.Info()&types.IsUntyped != 0 {
		return nil
	}
	switch parent := parent.(type) {
	case *ast.ArrayType, *ast.KeyValueExpr, *ast.CaseClause:
		return nil
	case *ast.BinaryExpr:
		if parent.Op == token.SHL || parent.Op == token.SHR || parent.Op == token.QUO || parent.Op == token.REM {
			return nil
		}
	}
	if v, ok := constant.Int64Val(p.info.Types[l].Value); !ok || v > 100 && t.Info()&types.IsInteger != 0 && p.maxSigned(t) < v+1 {
		return nil
	}
	return []*Mutant{{Kind: "off by one", start: l.Pos(), end: l.End(), newText: fmt.Sprintf("partdPick[%s](%s, %s, %[3]s+1)", t.Name(), numberMark, l.Value)}}
}

// maxSigned returns the largest value of a signed integer of t's size.
func (p *Package) maxSigned(t *types.Basic) int64 {
	return 1<<(8*p.sizes.Sizeof(t)-1) - 1
}

// swappedArguments returns a mutant for each pair of neighboring arguments that can be swapped. It omits arguments with
// calls, because a mutant evaluates both arguments twice.
func (p *Package) swappedArguments(c *ast.CallExpr) (all []*Mutant) {
	s, ok := p.info.TypeOf(c.Fun).(*types.Signature)
	if !ok || s.Variadic() || s.Params().Len() != len(c.Args) {
		return nil
	}
	for i := 1; i < len(c.Args); i++ {
		a, b := c.Args[i-1], c.Args[i]
		t := p.info.TypeOf(a)
		if !types.Identical(t, p.info.TypeOf(b)) || hasCall(a) || hasCall(b) || p.info.Types[a].Value != nil || p.info.Types[b].Value != nil {
			continue
		}
		if basic, ok := t.(*types.Basic); ok && basic.Info()&types.IsUntyped != 0 {
			continue
		}
		x, y := p.text(a.Pos(), a.End()), p.text(b.Pos(), b.End())
		if x != y {
			all = append(all, &Mutant{Kind: "swapped arguments", start: a.Pos(), end: b.End(), newText: fmt.Sprintf("partdPick(%[3]s, %[1]s, %[2]s), partdPick(%[3]s, %[2]s, %[1]s)", x, y, numberMark)})
		}
	}
	return all
}

// hasCall reports whether evaluating an expression twice could have effects.
func hasCall(e ast.Expr) (has bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr, *ast.FuncLit:
			has = true
		case *ast.UnaryExpr:
			has = has || n.Op == token.ARROW
		}
		return !has
	})
	return has
}
