"""The system calls that a confined process may not make, as a seccomp filter. Needs no package.

A filter is a small program of the kernel's packet filter: each system call runs it. Refused calls fail with
EPERM, so that a library that can do without goes on.
"""

from __future__ import annotations

import struct

_EPERM, _ENOSYS = 1, 38
_RETURN_ALLOW, _RETURN_ERROR = 0x7FFF0000, 0x00050000
# Source: linux/bpf_common.h: load a word, compare, and with bits, return.
_LOAD, _EQUAL, _AT_LEAST, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Where struct seccomp_data holds the number, the architecture and the lower halves of the arguments.
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_X32_BIT = 0x40000000
_CLONE_THREAD = 0x00010000
# ioctl that types into the terminal of whoever started the process.
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

# Numbers that all architectures share: Linux has given new calls one number since 5.1.
_COMMON = {
    "clone3": 435,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_send_signal": 424,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "fchmodat2": 452,
    "setxattrat": 463,
    "removexattrat": 466,
}
# Source: asm/unistd_64.h of x86-64, asm-generic/unistd.h, which 64-bit ARM uses.
_X86 = """
    execve 59 execveat 322 fork 57 vfork 58 clone 56 ptrace 101 process_vm_readv 310 process_vm_writev 311
    kill 62 tkill 200 tgkill 234 prlimit64 302 rt_sigqueueinfo 129 rt_tgsigqueueinfo 297
    socket 41 connect 42 accept 43 accept4 288 bind 49 listen 50
    mount 165 umount2 166 pivot_root 155 chroot 161 setns 308 unshare 272
    chmod 90 fchmod 91 fchmodat 268 chown 92 fchown 93 lchown 94 fchownat 260 utime 132 utimes 235
    futimesat 261 utimensat 280 setxattr 188 lsetxattr 189 fsetxattr 190 removexattr 197 lremovexattr 198
    fremovexattr 199 mknod 133 mknodat 259
    bpf 321 perf_event_open 298 userfaultfd 323 add_key 248 request_key 249 keyctl 250 open_by_handle_at 304
    init_module 175 finit_module 313 delete_module 176 kexec_load 246 kexec_file_load 320 reboot 169
    swapon 167 swapoff 168 acct 163 sethostname 170 setdomainname 171 settimeofday 164 clock_settime 227
    shmget 29 semget 64 msgget 68 mq_open 240 ioctl 16
"""
_ARM = """
    execve 221 execveat 281 clone 220 ptrace 117 process_vm_readv 270 process_vm_writev 271
    kill 129 tkill 130 tgkill 131 prlimit64 261 rt_sigqueueinfo 138 rt_tgsigqueueinfo 240
    socket 198 connect 203 accept 202 accept4 242 bind 200 listen 201
    mount 40 umount2 39 pivot_root 41 chroot 51 setns 268 unshare 97
    fchmod 52 fchmodat 53 fchown 55 fchownat 54 utimensat 88 setxattr 5 lsetxattr 6 fsetxattr 7
    removexattr 14 lremovexattr 15 fremovexattr 16 mknodat 33
    bpf 280 perf_event_open 241 userfaultfd 282 add_key 217 request_key 218 keyctl 219 open_by_handle_at 265
    init_module 105 finit_module 273 delete_module 106 kexec_load 104 kexec_file_load 294 reboot 142
    swapon 224 swapoff 225 acct 89 sethostname 161 setdomainname 162 settimeofday 170 clock_settime 112
    shmget 194 semget 190 msgget 186 mq_open 180 ioctl 29
"""
# By the kernel's name: the number of the architecture for seccomp, and its calls.
_ARCHITECTURES = {"x86_64": (0xC000003E, _X86), "aarch64": (0xC00000B7, _ARM)}

PROGRAMS = ("execve", "execveat", "fork", "vfork")


def refused_calls(machine: str) -> dict[str, int] | None:
    """Returns the numbers of the refused calls by name; None for an architecture that is not known.

    ``clone``, ``tgkill``, ``prlimit64`` and ``ioctl`` are among them, and refused in part: a process may
    start threads, end and limit itself, and ask a terminal for its size.
    """
    if machine not in _ARCHITECTURES:
        return None
    words = _ARCHITECTURES[machine][1].split()
    return {name: int(number) for name, number in zip(words[::2], words[1::2], strict=True)} | _COMMON


def seccomp_filter(machine: str, process: int) -> bytes | None:
    """Returns the filter as an array of struct sock_filter; None for an architecture that is not known.

    Args:
        machine: as ``os.uname`` says it.
        process: the number of the process that is confined, which may end itself.
    """
    calls = refused_calls(machine)
    if calls is None:
        return None
    no, unknown = _RETURN_ERROR | _EPERM, _RETURN_ERROR | _ENOSYS
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine][0]),
        (_RETURN, 0, 0, no),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, no),
        # The C library starts its threads with clone instead, whose flags can be looked at.
        *_if_call(calls["clone3"], [(_RETURN, 0, 0, unknown)]),
        *_if_call(calls["clone"], [(_LOAD, 0, 0, _FIRST), (_BITS, 1, 0, _CLONE_THREAD), (_RETURN, 0, 0, no)]),
        *_if_call(calls["tgkill"], [(_LOAD, 0, 0, _FIRST), (_EQUAL, 1, 0, process), (_RETURN, 0, 0, no)]),
        *_if_call(calls["prlimit64"], [(_LOAD, 0, 0, _FIRST), (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, no)]),
        *_if_call(
            calls["ioctl"],
            [
                (_LOAD, 0, 0, _SECOND),
                (_EQUAL, 1, 0, _TIOCSTI),
                (_EQUAL, 0, 1, _TIOCLINUX),
                (_RETURN, 0, 0, no),
            ],
        ),
    ]
    for name, number in calls.items():
        if name not in ("clone3", "clone", "tgkill", "prlimit64", "ioctl"):
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, no)]
    lines.append((_RETURN, 0, 0, _RETURN_ALLOW))
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _if_call(number: int, then: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Looks closer at one call; what it does not refuse is allowed."""
    body = [*then, (_RETURN, 0, 0, _RETURN_ALLOW)]
    return [(_EQUAL, 0, len(body), number), *body]
