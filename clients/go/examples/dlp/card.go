package main

// Payment card numbers in text: 13 to 19 digits, of an issuer's range, with the right check digit (Luhn).
//
// Digits may be in groups, with up to three spaces, dots or dashes between two of them, and may be full-width or
// Arabic-Indic. A number is made of whole groups: sixteen digits inside a longer unbroken row of digits are none, and neither
// are digits on two lines. Work is bounded.

import (
	"fmt"
	"strconv"
)

const (
	shortest, longest = 13, 19
	maxSeparators     = 3
	maxSteps          = 20_000_000
)

// search is over all texts of one message: it knows how many combinations of groups may still be tried.
type search struct{ steps int }

func newSearch() *search { return &search{maxSteps} }

// group is digits without anything between them; of a row over nineteen only the first twenty are kept.
type group struct {
	digits [longest + 1]byte
	length int
}

// find says how many card numbers the text has. errUninspectable: it was not searched to its end.
func (s *search) find(text string) (int, error) {
	found := 0
	var groups []group // of the run at hand, no more than a number can have and one
	inGroup, separators := false, 0
	flush := func(keep int) error {
		for len(groups) > keep {
			used, err := s.numberAt(groups)
			if err != nil {
				return err
			}
			if used > 0 {
				found++
			}
			groups = groups[max(used, 1):]
		}
		return nil
	}
	for _, symbol := range text {
		digit, kind := classify(symbol)
		switch kind {
		case isInvisible:
			continue
		case isDigit:
			if !inGroup {
				if err := flush(longest); err != nil {
					return found, err
				}
				groups = append(groups, group{})
			}
			last := &groups[len(groups)-1]
			if last.length < len(last.digits) {
				last.digits[last.length] = digit
				last.length++
			}
			inGroup, separators = true, 0
			continue
		case isSeparator:
			if separators++; separators <= maxSeparators {
				inGroup = false
				continue
			}
		}
		inGroup, separators = false, 0
		if err := flush(0); err != nil {
			return found, err
		}
	}
	return found, flush(0)
}

// numberAt says how many groups the number that begins with the first one has; 0 for none.
func (s *search) numberAt(groups []group) (int, error) {
	if first := groups[0].digits[0]; first < '2' || first > '6' {
		return 0, nil
	}
	var digits [longest]byte
	length := 0
	for i, group := range groups {
		if s.steps--; s.steps < 0 {
			return 0, fmt.Errorf("%w: too many rows of digits", errUninspectable)
		}
		if length+group.length > longest {
			break
		}
		length += copy(digits[length:], group.digits[:group.length])
		if length >= shortest && isCardNumber(string(digits[:length])) {
			return i + 1, nil
		}
	}
	return 0, nil
}

// isCardNumber says whether ASCII digits are of an issuer's range and length, and their check digit is right.
func isCardNumber(digits string) bool { return isIssued(digits) && isLuhn(digits) }

func isIssued(digits string) bool {
	length := len(digits)
	first := func(count int) int { number, _ := strconv.Atoi(digits[:count]); return number }
	two, three, four := first(2), first(3), first(4)
	long := length >= 16 && length <= longest
	switch {
	case digits[0] == '4': // Visa
		return length == 13 || length == 16 || length == 19
	case two >= 51 && two <= 55, four >= 2221 && four <= 2720: // Mastercard
		return length == 16
	case two == 34, two == 37: // American Express
		return length == 15
	case three >= 300 && three <= 305, two == 36, two == 38, two == 39: // Diners Club
		return length == 14
	case four == 6011, three >= 644 && three <= 649, two == 65: // Discover
		return long
	case four >= 3528 && four <= 3589, two == 62: // JCB, UnionPay
		return long
	case two == 50, two >= 56 && two <= 58, four == 6304, four == 6759: // Maestro
		return long
	}
	return false
}

func isLuhn(digits string) bool {
	total := 0
	for i := range len(digits) {
		digit := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if digit *= 2; digit > 9 {
				digit -= 9
			}
		}
		total += digit
	}
	return total%10 == 0
}

type symbolKind int

const (
	isOther symbolKind = iota
	isDigit
	isSeparator
	isInvisible
)

// classify gives the digit in ASCII, also of the scripts that have others.
func classify(symbol rune) (byte, symbolKind) {
	switch {
	case symbol >= '0' && symbol <= '9':
		return byte(symbol), isDigit
	case symbol == ' ', symbol == '\t', symbol == '.', symbol == '-':
		return 0, isSeparator
	case symbol == 0:
		return 0, isInvisible
	case symbol < 0xa0:
		return 0, isOther
	case symbol >= 0xff10 && symbol <= 0xff19: // full-width
		return byte(symbol - 0xff10 + '0'), isDigit
	case symbol >= 0x660 && symbol <= 0x669, symbol >= 0x6f0 && symbol <= 0x6f9: // Arabic-Indic
		return byte(symbol&0xf + '0'), isDigit
	case symbol == 0xa0, symbol == 0x2007, symbol == 0x2009, symbol == 0x202f, symbol == 0x2212:
		return 0, isSeparator
	case symbol >= 0x2010 && symbol <= 0x2015: // dashes
		return 0, isSeparator
	case symbol == 0xad, symbol == 0xfeff, symbol >= 0x200b && symbol <= 0x200f, symbol >= 0x2060 && symbol <= 0x2064:
		return 0, isInvisible
	}
	return 0, isOther
}
