package remote

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ParsePlatform reads OS/ARCH[/VARIANT] or ARCH[/VARIANT], where the OS is linux. The names are Go's, as in OCI indexes, and
// those of uname and Debian are understood too: x86_64, aarch64, armhf, i386 and so on. An empty string means linux on this
// machine's architecture.
func ParsePlatform(s string) (v1.Platform, error) {
	if s == "" {
		return normalPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}), nil
	}
	parts := strings.Split(s, "/")
	if len(parts) == 1 || parts[0] != "linux" && len(parts) == 2 && strings.HasPrefix(parts[1], "v") {
		parts = append([]string{"linux"}, parts...)
	}
	if len(parts) > 3 || slices.Contains(parts, "") || strings.ContainsAny(s, " \t\n") {
		return v1.Platform{}, fmt.Errorf("reading the platform %q: it should be ARCH or OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64", s)
	}
	p := v1.Platform{OS: strings.ToLower(parts[0]), Architecture: strings.ToLower(parts[1])}
	if len(parts) == 3 {
		p.Variant = strings.ToLower(parts[2])
	}
	return normalPlatform(p), nil
}

// normalPlatform gives an architecture its one name. The variants that every machine of an architecture has (amd64 v1,
// arm64 v8) are left out, and 32-bit ARM without a variant is v7, as containerd has it.
func normalPlatform(p v1.Platform) v1.Platform {
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64", "arm64v8":
		p.Architecture = "arm64"
	case "armhf", "armv7l", "arm32v7":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel", "armv6l", "arm32v6":
		p.Architecture, p.Variant = "arm", "v6"
	case "i386", "i486", "i586", "i686", "x86":
		p.Architecture = "386"
	case "ppc64el":
		p.Architecture = "ppc64le"
	}
	if p.Variant != "" && p.Variant[0] >= '0' && p.Variant[0] <= '9' {
		p.Variant = "v" + p.Variant
	}
	switch {
	case p.Architecture == "amd64" && p.Variant == "v1", p.Architecture == "arm64" && p.Variant == "v8":
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	}
	return p
}

// choose picks the entry of an index for a platform: the same OS and architecture, and the highest variant that is not above
// the wanted one; an entry above it only if there is no other. ok is false if none fits.
func choose(entries []v1.Descriptor, want v1.Platform) (best v1.Descriptor, ok bool) {
	bestRank := 0
	for _, e := range entries {
		rank := 0
		switch {
		case e.Platform != nil:
			rank = rankPlatform(normalPlatform(*e.Platform), want)
		case len(entries) == 1:
			rank = 1 // A lone entry that says nothing is taken at its word.
		}
		if rank > bestRank {
			best, bestRank, ok = e, rank, true
		}
	}
	return best, ok
}

// rankPlatform is 0 if have doesn't fit and higher the better it does.
func rankPlatform(have, want v1.Platform) int {
	if have.OS != want.OS || have.Architecture != want.Architecture {
		return 0
	}
	const many = 1000
	level, wanted := variantLevel(have), variantLevel(want)
	switch {
	case have.Variant == want.Variant:
		return 3 * many
	case level < 0 || wanted < 0:
		return 1 // Variants that have no order.
	case level <= wanted:
		return 2*many + level
	default:
		return many - level
	}
}

// variantLevel is the number of a variant such as v7, or -1 if it has none.
func variantLevel(p v1.Platform) int {
	if p.Variant == "" {
		if p.Architecture == "arm64" {
			return 8
		}
		return 1
	}
	n, err := strconv.ParseFloat(strings.TrimPrefix(p.Variant, "v"), 64)
	if err != nil || n < 0 || n > 99 {
		return -1
	}
	return int(n)
}

// platformText writes a platform as --platform takes it.
func platformText(p v1.Platform) string {
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text
}

// platformsOf lists the platforms of an index for an error message.
func platformsOf(entries []v1.Descriptor) string {
	var list []string
	for _, e := range entries {
		if e.Platform == nil || e.Platform.OS == "unknown" || e.Platform.OS == "" {
			continue
		}
		if text := platformText(*e.Platform); !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	if len(list) == 0 {
		return "no platform"
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
