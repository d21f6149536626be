/* A kernel that ends in a triple fault: an invalid instruction, and no handler for it nor for what comes of that. */
__asm__(".globl _start\n"
	"_start:\n"
	"	lidt none(%rip)\n"
	"	ud2\n"
	"none:	.word 0\n"
	"	.quad 0\n");
