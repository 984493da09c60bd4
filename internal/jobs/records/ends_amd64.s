#include "textflag.h"

// func wideBits(data *byte, blocks int, sep, newline byte, bits *[2]uint64)
//
// For each block of 64 bytes: the bits of those that are separators or newlines, then
// those of the newlines.
TEXT ·wideBits(SB), NOSPLIT, $0-32
	MOVQ data+0(FP), SI
	MOVQ blocks+8(FP), CX
	MOVBQZX sep+16(FP), AX
	MOVBQZX newline+17(FP), BX
	MOVQ bits+24(FP), DI
	VMOVQ AX, X0
	VPBROADCASTB X0, Y0
	VMOVQ BX, X1
	VPBROADCASTB X1, Y1

next:
	VMOVDQU (SI), Y2
	VMOVDQU 32(SI), Y3
	VPCMPEQB Y1, Y2, Y4 // newlines
	VPCMPEQB Y1, Y3, Y5
	VPCMPEQB Y0, Y2, Y2 // separators
	VPCMPEQB Y0, Y3, Y3
	VPOR Y4, Y2, Y2
	VPOR Y5, Y3, Y3
	VPMOVMSKB Y2, R8
	VPMOVMSKB Y3, R9
	VPMOVMSKB Y4, R10
	VPMOVMSKB Y5, R11
	SHLQ $32, R9
	SHLQ $32, R11
	ORQ R9, R8
	ORQ R11, R10
	MOVQ R8, (DI)
	MOVQ R10, 8(DI)
	ADDQ $64, SI
	ADDQ $16, DI
	DECQ CX
	JNZ next
	VZEROUPPER
	RET

DATA indexes<>+0(SB)/8, $0x0706050403020100
DATA indexes<>+8(SB)/8, $0x0f0e0d0c0b0a0908
DATA indexes<>+16(SB)/8, $0x1716151413121110
DATA indexes<>+24(SB)/8, $0x1f1e1d1c1b1a1918
DATA indexes<>+32(SB)/8, $0x2726252423222120
DATA indexes<>+40(SB)/8, $0x2f2e2d2c2b2a2928
DATA indexes<>+48(SB)/8, $0x3736353433323130
DATA indexes<>+56(SB)/8, $0x3f3e3d3c3b3a3938
GLOBL indexes<>(SB), RODATA|NOPTR, $64

// func widePositions(bits *[2]uint64, blocks int, positions *uint32)
//
// For each block, it selects the indexes of the bits that are set, and widens 16 of them at a time.
TEXT ·widePositions(SB), NOSPLIT, $0-24
	MOVQ bits+0(FP), SI
	MOVQ blocks+8(FP), CX
	MOVQ positions+16(FP), DI
	XORL AX, AX // position of the block
	VMOVDQU64 indexes<>(SB), Z0

block:
	MOVQ (SI), R8
	KMOVQ R8, K1
	POPCNTQ R8, R9
	VPCOMPRESSB.Z Z0, K1, Z1
	VPBROADCASTD AX, Z2
	MOVQ DI, R10
	LEAQ (DI)(R9*4), DI

widen:
	VPMOVZXBD X1, Z3
	VPADDD Z2, Z3, Z3
	VMOVDQU32 Z3, (R10)
	ADDQ $64, R10
	VSHUFI64X2 $0x39, Z1, Z1, Z1 // move the next 16 indexes to X1
	SUBQ $16, R9
	JGT widen
	ADDL $64, AX
	ADDQ $16, SI
	DECQ CX
	JNZ block
	VZEROUPPER
	RET
