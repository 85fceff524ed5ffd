package home

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// A Parting is a group that this node has left to go on with those who answer.
type Parting struct {
	Group  string `json:"group"`
	Commit uint64 `json:"commit"` // all that the group had agreed on up to here is in this node's log
	Last   uint64 `json:"last"`   // the log went to here, and all of it counts in the new group
}

// Part begins a group of its own. The definition comes before the secret: a crash in
// between leaves a group of one that still has the old secret, and not a member that
// nobody understands.
func (h Home) Part(definition []byte, from Parting) error {
	secret, err := NewSecret()
	if err != nil {
		return err
	}
	partings, err := h.Partings()
	if err != nil {
		return err
	}
	text, err := json.Marshal(append(partings, from))
	if err != nil {
		return err
	}
	return errors.Join(h.write(homeParted, text), h.Note(definition), h.write(homeSecret, secret))
}

// Partings returns the groups that this node has left.
func (h Home) Partings() (list []Parting, err error) {
	text, err := h.read(homeParted)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", h.path(homeParted), err)
	}
	return list, nil
}
