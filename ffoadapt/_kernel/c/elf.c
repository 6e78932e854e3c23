/* The addresses that the libraries of solvers call as sigaction() and signal(), and others in their
   place. */

#include "signals.h"

#include "kernel.h"

#ifdef SHARED

#if defined(__x86_64__)
enum { CALL = R_X86_64_JUMP_SLOT, DATA = R_X86_64_GLOB_DAT };
#elif defined(__aarch64__)
enum { CALL = R_AARCH64_JUMP_SLOT, DATA = R_AARCH64_GLOB_DAT };
#else
enum { CALL = -1, DATA = -1 };
#endif

typedef struct {
    const char **paths; /* of libraries, or of folders with a slash at the end */
    ptrdiff_t count;
    uintptr_t sigaction, signal; /* what is called in their place */
    int replaced; /* libraries whose calls are */
} Search;

static int wanted(const Search *s, const char *name)
{
    for (ptrdiff_t k = 0; k < s->count; k++) {
        size_t length = strlen(s->paths[k]);
        if (length && !strncmp(name, s->paths[k], length) &&
            (s->paths[k][length - 1] == '/' || !name[length]))
            return 1;
    }
    return 0;
}

/* Writes where the loader may have forbidden it once all was in place. */
static int put(const struct dl_phdr_info *library, uintptr_t *place, uintptr_t value)
{
    uintptr_t size = (uintptr_t)sysconf(_SC_PAGESIZE), page = (uintptr_t)place & ~(size - 1);
    int closed = 0;
    for (int k = 0; k < library->dlpi_phnum; k++) {
        const ElfW(Phdr) *part = library->dlpi_phdr + k;
        uintptr_t start = library->dlpi_addr + part->p_vaddr;
        closed |= part->p_type == PT_GNU_RELRO && (uintptr_t)place >= start &&
                  (uintptr_t)place < start + part->p_memsz;
    }
    if (closed && mprotect((void *)page, size, PROT_READ | PROT_WRITE))
        return 0;
    __atomic_store_n(place, value, __ATOMIC_SEQ_CST);
    if (closed)
        mprotect((void *)page, size, PROT_READ);
    return 1;
}

static int replace(const Search *s, const struct dl_phdr_info *library,
                   const ElfW(Rela) *entries, size_t bytes, const ElfW(Sym) *symbols,
                   const char *words)
{
    int done = 0;
    for (size_t k = 0; entries && k < bytes / sizeof *entries; k++) {
        int type = (int)ELF64_R_TYPE(entries[k].r_info);
        if (type != CALL && type != DATA)
            continue;
        const char *name = words + symbols[ELF64_R_SYM(entries[k].r_info)].st_name;
        uintptr_t ours = !strcmp(name, "sigaction") ? s->sigaction
                         : !strcmp(name, "signal")  ? s->signal
                                                    : 0;
        if (ours)
            done |= put(library, (uintptr_t *)(library->dlpi_addr + entries[k].r_offset), ours);
    }
    return done;
}

static int visit(struct dl_phdr_info *library, size_t size, void *search)
{
    Search *s = search;
    if (!library->dlpi_name || !wanted(s, library->dlpi_name))
        return 0;
    const ElfW(Dyn) *entry = NULL;
    for (int k = 0; k < library->dlpi_phnum; k++)
        if (library->dlpi_phdr[k].p_type == PT_DYNAMIC)
            entry = (void *)(library->dlpi_addr + library->dlpi_phdr[k].p_vaddr);
    const ElfW(Rela) *calls = NULL, *data = NULL;
    const ElfW(Sym) *symbols = NULL;
    const char *words = NULL;
    size_t calls_size = 0, data_size = 0;
    int kind = DT_RELA;
    for (; entry && entry->d_tag != DT_NULL; entry++) {
        uintptr_t at = entry->d_un.d_ptr; /* some loaders leave it relative */
        at += at < library->dlpi_addr ? library->dlpi_addr : 0;
        switch (entry->d_tag) {
        case DT_JMPREL: calls = (void *)at; break;
        case DT_RELA: data = (void *)at; break;
        case DT_SYMTAB: symbols = (void *)at; break;
        case DT_STRTAB: words = (void *)at; break;
        case DT_PLTRELSZ: calls_size = entry->d_un.d_val; break;
        case DT_RELASZ: data_size = entry->d_un.d_val; break;
        case DT_PLTREL: kind = (int)entry->d_un.d_val; break;
        }
    }
    if (symbols && words && kind == DT_RELA)
        s->replaced += replace(s, library, calls, calls_size, symbols, words) |
                    replace(s, library, data, data_size, symbols, words);
    return 0;
}

/* Has the libraries with these paths, or in these folders, call these functions; how many do. */
int replace_calls(const char **paths, ptrdiff_t count,
                  int (*for_sigaction)(int, const struct sigaction *, struct sigaction *),
                  void (*(*for_signal)(int, void (*)(int)))(int))
{
    Search search = {paths, count, (uintptr_t)for_sigaction, (uintptr_t)for_signal, 0};
    dl_iterate_phdr(visit, &search);
    return search.replaced;
}

#endif
