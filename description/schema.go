package description

import "strings"

// The language as data. schema_*.go hold one elementRule for every element;
// the validator, the resolver's defaults and the reference page all read the
// same table, so that none of them can know something that the others do not.

// version is a schema version, major*100+minor: 706 is 7.6.
type version int

// The versions that matter by themselves.
const (
	v5_0          version = 500
	v7_6          version = 706 // the newest that KIWI 9 knows
	v8_0          version = 800
	v8_1          version = 801
	v8_2          version = 802
	v8_3          version = 803
	v8_4          version = 804
	latestVersion version = 805
)

// Cardinalities of a child element.
const (
	optional = "?" // none or one
	one      = "!" // exactly one
	any0     = "*" // any number
	some     = "+" // one or more
)

// elementRule says what an element may hold. An element's rule depends on its
// parent where two elements share a name (volume, file, label).
type elementRule struct {
	Name     string
	Doc      string // what it is for, one sentence or two
	Attrs    []attrRule
	Children []childRule
	Text     *valueRule // nil: no text inside
	// Types lists the image types that an element below <type> has a meaning
	// for; empty: all.
	Types string
	Since version // first version that has it; 0: always
	Until version // last version that has it; 0: still
	effect
	// Foreign elements hold anything.
	Foreign bool
}

// effect says when a setting that the language allows does something. What it
// does is the rule's Doc. A setting without effect gets a warning.
type effect struct {
	For   string // the image types that obey it; empty: all that it is allowed for
	Needs *need  // what else must be there
	Idle  string // why nothing obeys it, one clause; empty where something does
	// AtBoot says that programs of the image obey it when it boots or installs
	// itself: KIWI's modules for dracut, which read it in /.profile.
	AtBoot bool
}

// need is what a setting works together with.
type need struct {
	Text string // such as "a squashfs"
	// Refused says that the builders refuse what is needed, so far.
	Refused bool
	met     func(*Image) bool
}

// childRule is a child element and how often it may be there.
type childRule struct {
	Card string
	Rule *elementRule
}

// attrRule is an attribute of an element.
type attrRule struct {
	Name     string
	Value    *valueRule
	Required bool
	Default  string // the value that holds when it is absent; "" for none
	// Types lists the image types that the attribute has a meaning for, for
	// attributes of <type>; empty: all.
	Types string
	// OldTypes and OldValue are the same for schemas up to 7.6, where they differ.
	OldTypes string
	OldValue *valueRule
	Doc      string
	Since    version
	Until    version
	effect
	KIWI string // what KIWI does otherwise, as the end of a sentence
	// Excludes names an attribute that must not stand beside this one.
	Excludes string
}

// Mixed reports whether text between the element's children is tolerated, as
// KIWI does everywhere but in these.
func (r *elementRule) Mixed() bool {
	switch r.Name {
	case "profile", "repository", "source", "containers":
		return false
	}
	return len(r.Children) > 0
}

func (r *elementRule) attr(name string) *attrRule {
	for i := range r.Attrs {
		if r.Attrs[i].Name == name {
			return &r.Attrs[i]
		}
	}
	return nil
}

func (r *elementRule) child(name string) *childRule {
	for i := range r.Children {
		if r.Children[i].Rule.Name == name {
			return &r.Children[i]
		}
	}
	return nil
}

// typesIn returns the image types that the attribute has a meaning for.
func (r *attrRule) typesIn(v version) string {
	if v <= v7_6 && r.OldTypes != "" {
		return r.OldTypes
	}
	return r.Types
}

// valueIn returns the values that the attribute may have.
func (r *attrRule) valueIn(v version) *valueRule {
	if v <= v7_6 && r.OldValue != nil {
		return r.OldValue
	}
	return r.Value
}

// inVersion reports whether something with these bounds exists in a version.
func inVersion(v, since, until version) bool {
	return v >= since && (until == 0 || v <= until)
}

// forTypes reports whether a list of image types, as the table writes it,
// includes a type.
func forTypes(list, image string) bool {
	return list == "" || contains(strings.Fields(list), image)
}
