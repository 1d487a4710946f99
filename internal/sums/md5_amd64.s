// MD5 of eight streams at once, with the 256-bit registers of AVX2: each register holds one 32-bit word of every stream.

#include "textflag.h"

// The registers: A to D hold the state, OLDA to OLDD what it was before the block, T and U are for steps, ONES has all bits set.
#define A Y0
#define B Y1
#define C Y2
#define D Y3
#define T Y4
#define U Y5
#define ONES Y6
#define OLDA Y8
#define OLDB Y9
#define OLDC Y10
#define OLDD Y11

// What the four rounds have in common (RFC 1321, 3.4): a = b + rotate(a + f(b, c, d) + message + constant). The message's words lie on the stack, the
// constants in memory.
#define START(a, word, constant) \
	VPBROADCASTD (4*constant)(DX), U \
	VPADDD       (32*word)(SP), U, U \
	VPADDD       U, a, a

#define END(a, b, shift) \
	VPADDD T, a, a          \
	VPSLLD $shift, a, T     \
	VPSRLD $(32-shift), a, a \
	VPOR   T, a, a          \
	VPADDD b, a, a

// f is (b and c) or (not b and d).
#define ROUND1(a, b, c, d, word, shift, constant) \
	VPXOR d, c, T \
	START(a, word, constant) \
	VPAND b, T, T \
	VPXOR d, T, T \
	END(a, b, shift)

// f is (b and d) or (c and not d).
#define ROUND2(a, b, c, d, word, shift, constant) \
	VPANDN c, d, T \
	START(a, word, constant) \
	VPADDD T, a, a \
	VPAND  b, d, T \
	END(a, b, shift)

// f is b xor c xor d.
#define ROUND3(a, b, c, d, word, shift, constant) \
	VPXOR d, c, T \
	START(a, word, constant) \
	VPXOR b, T, T \
	END(a, b, shift)

// f is c xor (b or not d).
#define ROUND4(a, b, c, d, word, shift, constant) \
	VPXOR ONES, d, T \
	START(a, word, constant) \
	VPOR  b, T, T \
	VPXOR c, T, T \
	END(a, b, shift)

// TRANSPOSE reads 32 bytes of every stream and puts the eight words that they are, one of all streams after the other, on the stack.
#define TRANSPOSE(from, to) \
	VMOVDQU    (from)(R8), Y0   \
	VMOVDQU    (from)(R9), Y1   \
	VMOVDQU    (from)(R10), Y2  \
	VMOVDQU    (from)(R11), Y3  \
	VMOVDQU    (from)(R12), Y4  \
	VMOVDQU    (from)(R13), Y5  \
	VMOVDQU    (from)(SI), Y6   \
	VMOVDQU    (from)(DI), Y7   \
	VPUNPCKLDQ Y1, Y0, Y12      \
	VPUNPCKHDQ Y1, Y0, Y13      \
	VPUNPCKLDQ Y3, Y2, Y14      \
	VPUNPCKHDQ Y3, Y2, Y15      \
	VPUNPCKLDQ Y5, Y4, Y0       \
	VPUNPCKHDQ Y5, Y4, Y1       \
	VPUNPCKLDQ Y7, Y6, Y2       \
	VPUNPCKHDQ Y7, Y6, Y3       \
	VPUNPCKLQDQ Y14, Y12, Y4    \
	VPUNPCKHQDQ Y14, Y12, Y5    \
	VPUNPCKLQDQ Y15, Y13, Y6    \
	VPUNPCKHQDQ Y15, Y13, Y7    \
	VPUNPCKLQDQ Y2, Y0, Y12     \
	VPUNPCKHQDQ Y2, Y0, Y13     \
	VPUNPCKLQDQ Y3, Y1, Y14     \
	VPUNPCKHQDQ Y3, Y1, Y15     \
	VPERM2I128 $0x20, Y12, Y4, Y0 \
	VPERM2I128 $0x20, Y13, Y5, Y1 \
	VPERM2I128 $0x20, Y14, Y6, Y2 \
	VPERM2I128 $0x20, Y15, Y7, Y3 \
	VMOVDQU    Y0, (to)(SP)     \
	VMOVDQU    Y1, (to+32)(SP)  \
	VMOVDQU    Y2, (to+64)(SP)  \
	VMOVDQU    Y3, (to+96)(SP)  \
	VPERM2I128 $0x31, Y12, Y4, Y0 \
	VPERM2I128 $0x31, Y13, Y5, Y1 \
	VPERM2I128 $0x31, Y14, Y6, Y2 \
	VPERM2I128 $0x31, Y15, Y7, Y3 \
	VMOVDQU    Y0, (to+128)(SP) \
	VMOVDQU    Y1, (to+160)(SP) \
	VMOVDQU    Y2, (to+192)(SP) \
	VMOVDQU    Y3, (to+224)(SP)

// func blocks8(state *[4][8]uint32, data *[8]*byte, blocks int)
TEXT ·blocks8(SB), NOSPLIT, $512-24
	MOVQ state+0(FP), AX
	MOVQ data+8(FP), CX
	MOVQ blocks+16(FP), BX
	LEAQ ·constants(SB), DX
	MOVQ 0(CX), R8
	MOVQ 8(CX), R9
	MOVQ 16(CX), R10
	MOVQ 24(CX), R11
	MOVQ 32(CX), R12
	MOVQ 40(CX), R13
	MOVQ 48(CX), SI
	MOVQ 56(CX), DI
	VMOVDQU 0(AX), OLDA
	VMOVDQU 32(AX), OLDB
	VMOVDQU 64(AX), OLDC
	VMOVDQU 96(AX), OLDD

block:
	TRANSPOSE(0, 0)
	TRANSPOSE(32, 256)
	VPCMPEQD ONES, ONES, ONES
	VMOVDQA OLDA, A
	VMOVDQA OLDB, B
	VMOVDQA OLDC, C
	VMOVDQA OLDD, D


	ROUND1(A, B, C, D, 0, 7, 0)
	ROUND1(D, A, B, C, 1, 12, 1)
	ROUND1(C, D, A, B, 2, 17, 2)
	ROUND1(B, C, D, A, 3, 22, 3)
	ROUND1(A, B, C, D, 4, 7, 4)
	ROUND1(D, A, B, C, 5, 12, 5)
	ROUND1(C, D, A, B, 6, 17, 6)
	ROUND1(B, C, D, A, 7, 22, 7)
	ROUND1(A, B, C, D, 8, 7, 8)
	ROUND1(D, A, B, C, 9, 12, 9)
	ROUND1(C, D, A, B, 10, 17, 10)
	ROUND1(B, C, D, A, 11, 22, 11)
	ROUND1(A, B, C, D, 12, 7, 12)
	ROUND1(D, A, B, C, 13, 12, 13)
	ROUND1(C, D, A, B, 14, 17, 14)
	ROUND1(B, C, D, A, 15, 22, 15)

	ROUND2(A, B, C, D, 1, 5, 16)
	ROUND2(D, A, B, C, 6, 9, 17)
	ROUND2(C, D, A, B, 11, 14, 18)
	ROUND2(B, C, D, A, 0, 20, 19)
	ROUND2(A, B, C, D, 5, 5, 20)
	ROUND2(D, A, B, C, 10, 9, 21)
	ROUND2(C, D, A, B, 15, 14, 22)
	ROUND2(B, C, D, A, 4, 20, 23)
	ROUND2(A, B, C, D, 9, 5, 24)
	ROUND2(D, A, B, C, 14, 9, 25)
	ROUND2(C, D, A, B, 3, 14, 26)
	ROUND2(B, C, D, A, 8, 20, 27)
	ROUND2(A, B, C, D, 13, 5, 28)
	ROUND2(D, A, B, C, 2, 9, 29)
	ROUND2(C, D, A, B, 7, 14, 30)
	ROUND2(B, C, D, A, 12, 20, 31)

	ROUND3(A, B, C, D, 5, 4, 32)
	ROUND3(D, A, B, C, 8, 11, 33)
	ROUND3(C, D, A, B, 11, 16, 34)
	ROUND3(B, C, D, A, 14, 23, 35)
	ROUND3(A, B, C, D, 1, 4, 36)
	ROUND3(D, A, B, C, 4, 11, 37)
	ROUND3(C, D, A, B, 7, 16, 38)
	ROUND3(B, C, D, A, 10, 23, 39)
	ROUND3(A, B, C, D, 13, 4, 40)
	ROUND3(D, A, B, C, 0, 11, 41)
	ROUND3(C, D, A, B, 3, 16, 42)
	ROUND3(B, C, D, A, 6, 23, 43)
	ROUND3(A, B, C, D, 9, 4, 44)
	ROUND3(D, A, B, C, 12, 11, 45)
	ROUND3(C, D, A, B, 15, 16, 46)
	ROUND3(B, C, D, A, 2, 23, 47)

	ROUND4(A, B, C, D, 0, 6, 48)
	ROUND4(D, A, B, C, 7, 10, 49)
	ROUND4(C, D, A, B, 14, 15, 50)
	ROUND4(B, C, D, A, 5, 21, 51)
	ROUND4(A, B, C, D, 12, 6, 52)
	ROUND4(D, A, B, C, 3, 10, 53)
	ROUND4(C, D, A, B, 10, 15, 54)
	ROUND4(B, C, D, A, 1, 21, 55)
	ROUND4(A, B, C, D, 8, 6, 56)
	ROUND4(D, A, B, C, 15, 10, 57)
	ROUND4(C, D, A, B, 6, 15, 58)
	ROUND4(B, C, D, A, 13, 21, 59)
	ROUND4(A, B, C, D, 4, 6, 60)
	ROUND4(D, A, B, C, 11, 10, 61)
	ROUND4(C, D, A, B, 2, 15, 62)
	ROUND4(B, C, D, A, 9, 21, 63)

	VPADDD A, OLDA, OLDA
	VPADDD B, OLDB, OLDB
	VPADDD C, OLDC, OLDC
	VPADDD D, OLDD, OLDD
	ADDQ $64, R8
	ADDQ $64, R9
	ADDQ $64, R10
	ADDQ $64, R11
	ADDQ $64, R12
	ADDQ $64, R13
	ADDQ $64, SI
	ADDQ $64, DI
	DECQ BX
	JNZ  block

	VMOVDQU OLDA, 0(AX)
	VMOVDQU OLDB, 32(AX)
	VMOVDQU OLDC, 64(AX)
	VMOVDQU OLDD, 96(AX)
	VZEROUPPER
	RET
