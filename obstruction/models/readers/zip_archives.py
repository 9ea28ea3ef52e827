"""Read zip archives with checks and limits, so that a malicious archive does no harm.

Python's own module ``zipfile`` does not tell where an archive keeps sizes and checksums, which must
be known to replace a member in a copy that is otherwise the same. The parser here trusts no size.
Members must lie within the file and must not overlap, and their own headers must agree with the
directory. Bytes are counted while they are decompressed. Nothing is ever extracted to the disk.
"""

from __future__ import annotations

import bisect
import itertools
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from obstruction.models.readers.files import Bytes, Splice, mapped, most_expanded, shown, spliced

MOST_MEMBERS: Final = 100_000
"""The largest number of members. Each needs some hundred bytes of memory."""

STORED: Final = 0
DEFLATED: Final = 8

_PIECE: Final = 2**20
_END: Final = struct.Struct("<4s4H2LH")
_LOCATOR: Final = struct.Struct("<4sLQL")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
_DESCRIPTOR: Final = 0x8
_UTF8: Final = 0x800
_WIDE: Final = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)  # values that stand for numbers of 64 bits


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive as the directory describes it.

    All positions are counted from the start of the file.
    """

    name: str  # its path within the archive, which is never used as a path on the disk
    method: int  # STORED or DEFLATED
    crc: int
    packed: int  # the number of its bytes as they are stored
    size: int  # the number of its bytes when they are decompressed
    header: int  # the position of its own header
    start: int  # the position of its stored bytes
    checksums: tuple[int, ...]  # the positions of `crc`
    lengths: tuple[tuple[int, str], ...]  # the positions of `packed`, with `struct` formats
    moves: tuple[tuple[int, str], ...]  # the positions of `header`, with `struct` formats

    @property
    def stop(self) -> int:
        """The position after its stored bytes."""
        return self.start + self.packed


class Archive:
    """The members of a whole and plain zip file, in the order of its directory, without folders.

    A ValueError says what is wrong with any other file.
    """

    def __init__(self, path: Path) -> None:
        self.data = mapped(path)
        self._left = most_expanded(self.data.size)
        self._pointers: list[tuple[int, str, int]] = []  # position, format and value
        self.members: dict[str, Member] = {}
        for member in self._directory():
            if member.name in self.members:
                raise ValueError(f"holds {shown(member.name)} twice")
            self.members[member.name] = member
        done = 0
        for member in sorted(self.members.values(), key=lambda member: member.header):
            if member.header < done:  # else a small file could expand to a large one
                raise ValueError(f"{shown(member.name)} lies within another member of the archive")
            done = member.stop
        # torch.serialization.set_crc32_options(False) writes zeros for checksums
        self.checked = any(member.crc for member in self.members.values())

    def view(self, name: str) -> Bytes:
        """Return the bytes of a member, as a view of the file if they are not compressed.

        A ValueError tells of a member that is missing or damaged, or that expands too much.
        """
        if name not in self.members:
            raise ValueError(f"damaged ({shown(name)} is missing)")
        member = self.members[name]
        packed = self.data[member.start : member.stop]
        data = packed if member.method == STORED else self._expanded(member, packed)
        if self.checked and zlib.crc32(data.data) != member.crc:
            raise ValueError(f"damaged (the checksum of {shown(name)} does not fit)")
        return data

    def read(self, name: str) -> bytes:
        """Return a copy of the bytes of a member."""
        size = self.members[name].size if name in self.members else 0
        self._take(size, name)
        return self.view(name).tobytes()

    def _take(self, size: int, name: str) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(
                f"{shown(name)} expands out of proportion to the file: at most "
                f"{most_expanded(self.data.size):,} bytes are read from it"
            )

    def _expanded(self, member: Member, packed: Bytes) -> Bytes:
        self._take(member.size, member.name)
        # no more is allocated than is declared and allowed, however many bytes there are
        data = np.empty(member.size, np.uint8)
        stream, done = zlib.decompressobj(-zlib.MAX_WBITS), 0
        for start in range(0, packed.size, _PIECE):
            rest = packed[start : start + _PIECE].tobytes()
            while not stream.eof:
                piece = stream.decompress(rest, _PIECE)
                if done + len(piece) > member.size:
                    raise ValueError(f"{shown(member.name)} expands to more bytes than it declares")
                data[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
                done += len(piece)
                rest = stream.unconsumed_tail
                if not rest and len(piece) < _PIECE:
                    break
        if done != member.size or not stream.eof:
            raise ValueError(f"damaged ({shown(member.name)} does not expand to what it declares)")
        return data

    # --- the directory at the end -----------------------------------------------------------

    def _directory(self) -> list[Member]:
        """Return the members that the directory lists."""
        data, size = self.data, self.data.size
        tail = data[max(0, size - _END.size - 0xFFFF) :].tobytes()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) - at < _END.size:
            raise ValueError("is not a whole zip archive (its end is missing)")
        end = _END.unpack_from(tail, at)
        _, disk, first_disk, here, count, length, start, comment = end
        place = size - len(tail) + at
        if at + _END.size + comment != len(tail) or disk or first_disk or here != count:
            raise ValueError("is not a whole zip archive (its end is damaged)")
        stop = place
        if start != 0xFFFFFFFF:
            self._pointers.append((place + 16, "<L", start))
        if place >= _LOCATOR.size:
            mark, on, place64, disks = self._unpack(_LOCATOR, place - _LOCATOR.size)
            if mark == b"PK\x06\x07":
                record = self._unpack(_END64, place64)
                narrow = zip((count, length, start), record[7:10], _WIDE, strict=True)
                if (
                    record[0] != b"PK\x06\x06"
                    or place64 + _END64.size > place - _LOCATOR.size
                    or (on, disks) != (0, 1)
                    or any(one not in (other, most) for one, other, most in narrow)
                ):
                    raise ValueError("is not a whole zip archive (its end is damaged)")
                count, length, start = record[7:10]
                self._pointers.append((place64 + 48, "<Q", start))
                self._pointers.append((place - _LOCATOR.size + 8, "<Q", place64))
                stop = place64
        if start + length != stop:
            raise ValueError("is not a plain zip archive (the directory is not at its end)")
        if count > MOST_MEMBERS:
            raise ValueError(f"holds {count:,} members: at most {MOST_MEMBERS:,} are read")
        found, at = [], start
        for _ in range(count):
            member, at = self._entry(at, start, stop)
            if member is not None:
                found.append(member)
        if at != stop:
            raise ValueError("damaged (the directory of the archive does not end where it should)")
        return found

    def _entry(self, at: int, first: int, stop: int) -> tuple[Member | None, int]:
        """Return the member in the entry at a position, None for a folder, and the entry's end."""
        fields = self._unpack(_CENTRAL, at)
        mark, _, _, flags, method, _, _, crc, packed, size = fields[:10]
        name_size, extra_size, comment_size, disk, _, _, header = fields[10:]
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_size
        after = extra_at + extra_size + comment_size
        if mark != b"PK\x01\x02" or after > stop:
            raise ValueError("damaged (an entry in the directory of the archive)")
        raw = self.data[name_at:extra_at].tobytes()
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
        wide = self._wide(extra_at, extra_size, (size, packed, header))
        (size, _), (packed, packed_at), (header, header_at) = wide
        lengths = [(packed_at, "<Q") if packed_at else (at + 20, "<L")]
        moves = [(header_at, "<Q") if header_at else (at + 42, "<L")]
        if flags & _ENCRYPTED:
            raise ValueError(f"{shown(name)} is encrypted")
        if method not in (STORED, DEFLATED):
            raise ValueError(
                f"{shown(name)} is compressed by method {method}: only deflation is read"
            )
        if disk or (method == STORED and packed != size):
            raise ValueError(f"damaged (the sizes of {shown(name)} contradict each other)")
        local = self._unpack(_LOCAL, header)
        extra = header + _LOCAL.size + local[9]
        start = extra + local[10]
        if local[0] != b"PK\x03\x04" or local[3] != method or start + packed > first:
            raise ValueError(f"damaged (the header of {shown(name)} does not fit the directory)")
        if (local[2] ^ flags) & (_ENCRYPTED | _DESCRIPTOR) or raw != self.data[
            header + _LOCAL.size : extra
        ].tobytes():
            raise ValueError(f"damaged (the header of {shown(name)} does not fit the directory)")
        checksums = [at + 16]
        narrow = self._wide(extra, local[10], (local[8], local[7], 0))
        if flags & _DESCRIPTOR:  # sizes and checksum follow the data, and may be missing before it
            checksum, packed_after = self._descriptor(start + packed, first, (crc, packed, size))
            checksums.append(checksum)
            lengths.append(packed_after)
        declared = local[6], narrow[1][0], narrow[0][0]
        if not flags & _DESCRIPTOR or declared != (0, 0, 0):
            if declared != (crc, packed, size):
                raise ValueError(
                    f"damaged (the header of {shown(name)} does not fit the directory)"
                )
            checksums.append(header + 14)
            lengths.append((narrow[1][1], "<Q") if narrow[1][1] else (header + 18, "<L"))
        if name.endswith("/") and size == 0:
            return None, after
        known = name, method, crc, packed, size, header, start
        return Member(*known, tuple(checksums), tuple(lengths), tuple(moves)), after

    def _descriptor(
        self, at: int, first: int, sizes: tuple[int, int, int]
    ) -> tuple[int, tuple[int, str]]:
        """Return the positions of the checksum and of the compressed size behind the data."""
        tail = self.data[at : min(at + 24, first)].tobytes()
        skip = 4 if tail[:4] == b"PK\x07\x08" else 0
        for form, width in (("<LLL", "<L"), ("<LQQ", "<Q")):
            found = struct.Struct(form)
            if len(tail) >= skip + found.size and found.unpack_from(tail, skip) == sizes:
                return at + skip, (at + skip + 4, width)
        raise ValueError("damaged (the sizes after a member do not fit the directory)")

    def _wide(
        self, at: int, length: int, values: tuple[int, int, int]
    ) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Return numbers, each with its position in the extra field, or 0 if it is not there."""
        if at + length > self.data.size:
            raise ValueError("damaged (a header of the archive is cut off)")
        extra, position = self.data[at : at + length].tobytes(), 0
        found = [(value, 0) for value in values]
        while position + 4 <= length:
            kind, size = struct.unpack_from("<HH", extra, position)
            position += 4
            if kind == 1:
                places = iter(range(position, min(position + size, length) - 7, 8))
                for i, value in enumerate(values):
                    if value == 0xFFFFFFFF:
                        place = next(places, None)
                        if place is None:
                            raise ValueError("damaged (a header of the archive is cut off)")
                        found[i] = struct.unpack_from("<Q", extra, place)[0], at + place
                break
            position += size
        return found[0], found[1], found[2]

    def _unpack(self, form: struct.Struct, at: int) -> tuple[Any, ...]:
        if not 0 <= at <= self.data.size - form.size:
            raise ValueError("damaged (a header of the archive is cut off)")
        return form.unpack(self.data[at : at + form.size].tobytes())

    # --- a copy with members replaced ------------------------------------------------------

    def write(self, changes: Mapping[str, Any], stream: IO[bytes]) -> None:
        """Write a copy of the archive with new bytes, as many as before, in some members."""
        splices: list[Splice] = []
        grown: list[tuple[int, int]] = []  # the position of a member, and by how much it grows
        for name, new in changes.items():
            member = self.members[name]
            if len(new) != member.size:
                raise ValueError(f"{shown(name)} has {len(new)} bytes: must have {member.size}")
            packed = new if member.method == STORED else _deflated(new)
            splices.append((member.start, member.packed, packed))
            if self.checked:
                crc = struct.pack("<L", zlib.crc32(new))
                splices += [(place, 4, crc) for place in member.checksums]
            if len(packed) != member.packed:
                grown.append((member.start, len(packed) - member.packed))
                splices += [_number(at, form, len(packed)) for at, form in member.lengths]
        if grown:
            splices += self._moved(sorted(grown))
        spliced(self.data, splices, stream)

    def _moved(self, grown: list[tuple[int, int]]) -> list[Splice]:
        starts = [start for start, _ in grown]
        shifts = [0, *itertools.accumulate(growth for _, growth in grown)]

        def shift(place: int) -> int:
            return shifts[bisect.bisect_left(starts, place)]

        pointers = self._pointers + [
            (at, form, member.header)
            for member in self.members.values()
            for at, form in member.moves
        ]
        return [_number(at, form, to + by) for at, form, to in pointers if (by := shift(to))]


def first_member(head: bytes) -> bytes | None:
    """Return the name of the first member of a zip archive, or None for another file."""
    if not head.startswith(b"PK\x03\x04") or len(head) < _LOCAL.size:
        return None
    return head[_LOCAL.size : _LOCAL.size + int.from_bytes(head[26:28], "little")]


def _deflated(data: Any) -> bytes:
    stream = zlib.compressobj(-1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def _number(at: int, form: str, value: int) -> Splice:
    packed = struct.pack(form, value)
    return at, len(packed), packed
