package repositories

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Packet types of OpenPGP (RFC 9580, section 5).
const (
	secretKeyPacket = 5
	publicKeyPacket = 6
)

const (
	armorBegin = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	armorEnd   = "-----END PGP PUBLIC KEY BLOCK-----"
)

// publicKeys turns a file of OpenPGP public keys, armored or binary, into the packets that it holds: several keys become one keyring.
func publicKeys(data []byte) ([]byte, error) {
	ring := data
	if bytes.Contains(data, []byte(armorBegin)) {
		var err error
		if ring, err = dearmor(string(data)); err != nil {
			return nil, err
		}
	} else if bytes.Contains(data, []byte("-----BEGIN PGP")) {
		return nil, errors.New("it holds no OpenPGP public key, but something else in armor")
	}
	keys, err := splitKeys(ring)
	if err != nil {
		return nil, err
	}
	return bytes.Join(keys, nil), nil
}

// dearmor takes the ASCII armor off (RFC 9580, section 6.2).
func dearmor(text string) ([]byte, error) {
	var ring []byte
	text = strings.ReplaceAll(text, "\r\n", "\n")
	for {
		_, rest, found := strings.Cut(text, armorBegin)
		if !found {
			return ring, nil
		}
		block, after, found := strings.Cut(rest, "\n"+armorEnd)
		if !found {
			return nil, errors.New("its armor has no end")
		}
		text = after
		// Headers end at an empty line; a line that begins with = is a check sum.
		var encoded strings.Builder
		inBody := false
		for line := range strings.Lines(strings.TrimPrefix(block, "\n")) {
			line = strings.TrimSpace(line)
			switch {
			case !inBody:
				inBody = line == ""
			case !strings.HasPrefix(line, "="):
				encoded.WriteString(line)
			}
		}
		if !inBody {
			return nil, errors.New("its armor has no empty line after the headers")
		}
		packets, err := base64.StdEncoding.DecodeString(encoded.String())
		if err != nil {
			return nil, fmt.Errorf("its armor is damaged: %w", err)
		}
		ring = append(ring, packets...)
	}
}

// splitKeys cuts a keyring into its keys, each with the packets that belong to it.
func splitKeys(ring []byte) ([][]byte, error) {
	if len(ring) == 0 || ring[0]&0x80 == 0 {
		return nil, errors.New("it holds no OpenPGP public key")
	}
	var starts []int
	for at := 0; at < len(ring); {
		kind, header, size, err := packet(ring[at:])
		if err != nil {
			return nil, err
		}
		switch {
		case kind == secretKeyPacket:
			return nil, errors.New("it holds a secret key, which must not go into an image; export the public one")
		case kind == publicKeyPacket:
			starts = append(starts, at)
		case at == 0:
			return nil, fmt.Errorf("it holds no OpenPGP public key, but begins with a packet of type %d", kind)
		}
		at += header + size
	}
	keys := make([][]byte, len(starts))
	for i, start := range starts {
		end := len(ring)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		keys[i] = ring[start:end]
	}
	return keys, nil
}

// Fingerprints are those of the keys in a binary keyring, in capital hexadecimal digits (RFC 9580, section 5.5.4). Keys of version 3 and older have none that
// can be relied on, and are left out.
func Fingerprints(ring []byte) ([]string, error) {
	keys, err := splitKeys(ring)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, key := range keys {
		_, header, size, err := packet(key)
		if err != nil {
			return nil, err
		}
		body := key[header : header+size]
		if len(body) == 0 {
			continue
		}
		switch body[0] {
		case 4:
			sum := sha1.Sum(append([]byte{0x99, byte(len(body) >> 8), byte(len(body))}, body...))
			list = append(list, fmt.Sprintf("%X", sum))
		case 5, 6: // 5 is LibrePGP's
			prefix := binary.BigEndian.AppendUint32([]byte{0x95 + body[0]}, uint32(len(body)))
			list = append(list, fmt.Sprintf("%X", sha256.Sum256(append(prefix, body...))))
		}
	}
	return list, nil
}

// packet returns the type of the packet that data begins with, and the lengths in bytes of its header and of the rest (RFC 9580, section 4.2). Lengths in parts
// are for data only, never for keys.
func packet(data []byte) (kind, header, length int, err error) {
	truncated := errors.New("the OpenPGP key is not complete")
	number := func(at, width int) (n int, err error) {
		if len(data) < at+width {
			return 0, truncated
		}
		for _, b := range data[at : at+width] {
			n = n<<8 | int(b)
		}
		return n, nil
	}
	if len(data) < 2 {
		return 0, 0, 0, truncated
	}
	if data[0]&0x80 == 0 {
		return 0, 0, 0, errors.New("it has something in it that is no OpenPGP packet")
	}
	header = 2
	if data[0]&0x40 == 0 { // the old format
		kind = int(data[0] >> 2 & 0xf)
		width := 1 << (data[0] & 3)
		if width == 8 {
			return kind, 1, len(data) - 1, nil // up to the end
		}
		header = 1 + width
		length, err = number(1, width)
	} else {
		kind = int(data[0] & 0x3f)
		switch first := data[1]; {
		case first < 192:
			length = int(first)
		case first < 224:
			header = 3
			length, err = number(1, 2)
			length = length - 192<<8 + 192
		case first == 255:
			header = 6
			length, err = number(2, 4)
		default:
			return 0, 0, 0, errors.New("an OpenPGP packet has its length in parts, which keys never have")
		}
	}
	if err == nil && length > len(data)-header {
		err = truncated
	}
	return kind, header, length, err
}

// armor puts each key of a keyring into ASCII armor of its own, which is what all readers understand.
func armor(ring []byte) []byte {
	keys, err := splitKeys(ring)
	if err != nil {
		return nil // publicKeys has split it before
	}
	var out bytes.Buffer
	for _, key := range keys {
		out.WriteString(armorBegin + "\n\n")
		encoded := base64.StdEncoding.EncodeToString(key)
		for len(encoded) > 64 {
			out.WriteString(encoded[:64] + "\n")
			encoded = encoded[64:]
		}
		sum := crc24(key)
		check := base64.StdEncoding.EncodeToString([]byte{byte(sum >> 16), byte(sum >> 8), byte(sum)})
		out.WriteString(encoded + "\n=" + check + "\n" + armorEnd + "\n")
	}
	return out.Bytes()
}

// crc24 is the check sum of armor (RFC 4880, section 6.1), which old readers insist on.
func crc24(data []byte) uint32 {
	crc := uint32(0xb704ce)
	for _, b := range data {
		crc ^= uint32(b) << 16
		for range 8 {
			crc <<= 1
			if crc&0x1000000 != 0 {
				crc ^= 0x1864cfb
			}
		}
	}
	return crc & 0xffffff
}
