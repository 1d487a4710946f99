// Package repro is where everything comes from that would otherwise differ from one build to the next: the time and the
// random identifiers of disks, partitions and file systems.
package repro

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"time"
)

// EpochVariable is the environment variable that asks for equal bytes from equal inputs, as specified on
// reproducible-builds.org: a decimal number of seconds since 1970-01-01 UTC.
const EpochVariable = "SOURCE_DATE_EPOCH"

// Source gives the time and the identifiers of one build. A fixed source gives the same ones for the same seed.
type Source struct {
	Seed  [sha256.Size]byte // what identifiers derive from
	Epoch time.Time         // the time of the build, whole seconds UTC
	Fixed bool              // equal inputs are to give equal bytes
}

// New returns a source for a build at the given time. Identifiers derive from the inputs alone.
func New(epoch time.Time, inputs ...string) Source {
	h := sha256.New()
	for _, input := range inputs {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(input)))
		h.Write(length[:])
		h.Write([]byte(input))
	}
	s := Source{Epoch: epoch.UTC().Truncate(time.Second), Fixed: true}
	h.Sum(s.Seed[:0])
	return s
}

// FromEnvironment returns a fixed source if SOURCE_DATE_EPOCH is set, and else one with the present time and a random seed.
func FromEnvironment(inputs ...string) (Source, error) {
	value, ok := os.LookupEnv(EpochVariable)
	if !ok || value == "" {
		s := Source{Epoch: time.Now().UTC().Truncate(time.Second)}
		_, _ = rand.Read(s.Seed[:]) // never fails: crypto/rand ends the program instead
		return s, nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 0 {
		return Source{}, fmt.Errorf("reading %s: %q is not a number of seconds since 1970; set it like 'date +%%s' prints, or unset it", EpochVariable, value)
	}
	return New(time.Unix(seconds, 0), inputs...), nil
}

// With returns a source whose identifiers derive from these inputs too. A source that is not fixed stays as it is.
func (s Source) With(inputs ...string) Source {
	if !s.Fixed {
		return s
	}
	return New(s.Epoch, append([]string{string(s.Seed[:])}, inputs...)...)
}

func (s Source) bytes(label string) [sha256.Size]byte {
	return sha256.Sum256(append(append([]byte{}, s.Seed[:]...), label...))
}

// UUID returns the identifier for label in the form of RFC 9562, version 8 where it derives from inputs and 4 where it is random.
func (s Source) UUID(label string) string {
	b := s.bytes(label)
	version := byte(4)
	if s.Fixed {
		version = 8
	}
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// Uint32 returns the number for label, never 0.
func (s Source) Uint32(label string) uint32 {
	b := s.bytes(label)
	return max(binary.BigEndian.Uint32(b[:]), 1)
}

// Salt returns the salt for label: length characters of [a-zA-Z0-9./], as crypt(5) takes them.
func (s Source) Salt(label string, length int) string {
	const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	b := s.bytes("salt " + label)
	out := make([]byte, min(length, len(b)))
	for i := range out {
		out[i] = alphabet[b[i]%64]
	}
	return string(out)
}
