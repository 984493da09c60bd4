package pickle

import "fmt"

// The instructions, by the names that CPython gives them.
const (
	opMark           = '('
	opStop           = '.'
	opPop            = '0'
	opPopMark        = '1'
	opDup            = '2'
	opFloat          = 'F'
	opInt            = 'I'
	opBinInt         = 'J'
	opBinInt1        = 'K'
	opLong           = 'L'
	opBinInt2        = 'M'
	opNone           = 'N'
	opReduce         = 'R'
	opString         = 'S'
	opBinString      = 'T'
	opShortBinString = 'U'
	opUnicode        = 'V'
	opBinUnicode     = 'X'
	opAppend         = 'a'
	opGlobal         = 'c'
	opDict           = 'd'
	opEmptyDict      = '}'
	opAppends        = 'e'
	opGet            = 'g'
	opBinGet         = 'h'
	opLongBinGet     = 'j'
	opList           = 'l'
	opEmptyList      = ']'
	opPut            = 'p'
	opBinPut         = 'q'
	opLongBinPut     = 'r'
	opSetItem        = 's'
	opTuple          = 't'
	opEmptyTuple     = ')'
	opSetItems       = 'u'
	opBinFloat       = 'G'

	// Protocol 2.
	opProto    = 0x80
	opTuple1   = 0x85
	opTuple2   = 0x86
	opTuple3   = 0x87
	opNewTrue  = 0x88
	opNewFalse = 0x89
	opLong1    = 0x8a
	opLong4    = 0x8b

	// Protocol 3.
	opBinBytes      = 'B'
	opShortBinBytes = 'C'

	// Protocol 4.
	opShortBinUnicode = 0x8c
	opBinUnicode8     = 0x8d
	opBinBytes8       = 0x8e
	opEmptySet        = 0x8f
	opAddItems        = 0x90
	opFrozenSet       = 0x91
	opStackGlobal     = 0x93
	opMemoize         = 0x94
	opFrame           = 0x95

	// Protocol 5.
	opByteArray8 = 0x96
)

// refused are the instructions that plain values have no use for.
var refused = map[byte]string{
	'P':  "PERSID (an object that is kept elsewhere)",
	'Q':  "BINPERSID (an object that is kept elsewhere)",
	'b':  "BUILD (the state of an object)",
	'i':  "INST (an object of a class)",
	'o':  "OBJ (an object of a class)",
	0x81: "NEWOBJ (an object of a class)",
	0x82: "EXT1 (a registered class or function)",
	0x83: "EXT2 (a registered class or function)",
	0x84: "EXT4 (a registered class or function)",
	0x92: "NEWOBJ_EX (an object of a class)",
	0x97: "NEXT_BUFFER (a buffer that is kept elsewhere)",
	0x98: "READONLY_BUFFER (a buffer that is kept elsewhere)",
}

func refuse(op byte) error {
	if name, known := refused[op]; known {
		return fmt.Errorf("instruction %s: only plain values are read, and nothing is executed", name)
	}
	return fmt.Errorf("%#02x is no instruction of a pickle", op)
}
