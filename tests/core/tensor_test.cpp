#include "braid/core/tensor.h"

#include <gtest/gtest.h>

namespace braid {
namespace {

TEST(Shape, CountsAndIndexes) {
  const Shape shape{2, 3, 5};
  EXPECT_EQ(shape.rank, 3);
  EXPECT_EQ(shape.count(), 30);
  EXPECT_EQ(shape[0], 2);
  EXPECT_EQ(shape[-1], 5);
  EXPECT_EQ(shape[-3], 2);
  EXPECT_EQ((Shape{4, 0, 7}.count()), 0);
  EXPECT_EQ(Shape{}.count(), 1);  // no dimensions: one element, though a rank of 0 means "not given" in ops
}

TEST(Shape, ComparesRankAndSizes) {
  EXPECT_EQ((Shape{2, 3}), (Shape{2, 3}));
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
  EXPECT_NE((Shape{6}), (Shape{6, 1}));
  EXPECT_NE((Shape{6}), (Shape{6, 0}));
}

TEST(Shape, HasAtMostFiveDimensions) {
  EXPECT_EQ((Shape{1, 1, 1, 1, 1}).rank, 5);
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1}), Error);
}

TEST(Shape, Text) {
  EXPECT_EQ(to_string(Shape{2, 3}), "(2, 3)");
  EXPECT_EQ(to_string(Shape{7}), "(7)");
  EXPECT_EQ(to_string(Shape{}), "()");
}

Tensor view_of(float* data, const Shape& shape) {
  Tensor t;
  t.data = data;
  t.shape = shape;
  return t;
}

TEST(Tensor, KnowsItsBytesAndType) {
  float data[6] = {};
  const Tensor t = view_of(data, {2, 3});
  EXPECT_EQ(t.bytes(), 24u);
  EXPECT_EQ(describe(t), "f32 (2, 3)");
  t.as<float>()[4] = 5;
  EXPECT_EQ(data[4], 5);
  EXPECT_EQ(static_cast<const ConstTensor&>(t).as<float>()[4], 5);
  EXPECT_THROW(t.as<double>(), Error);
  EXPECT_THROW(t.as<std::int32_t>(), Error);
  EXPECT_TRUE(t.defined());
  EXPECT_FALSE(Tensor{}.defined());
}

TEST(Tensor, RowsAreViews) {
  float data[12] = {};
  const Tensor t = view_of(data, {4, 3});
  const Tensor middle = rows_of(t, 1, 2);
  EXPECT_EQ(middle.data, data + 3);
  EXPECT_EQ(middle.shape, (Shape{2, 3}));
  EXPECT_EQ(rows_of(t, 4, 0).shape, (Shape{0, 3}));
  EXPECT_THROW(rows_of(t, 3, 2), Error);
  EXPECT_THROW(rows_of(t, -1, 1), Error);
  EXPECT_THROW(rows_of(Tensor{}, 0, 0), Error);
  EXPECT_EQ(rows_of(view_of(nullptr, {4, 3}), 1, 2).data, nullptr);
  EXPECT_EQ(rows_of(view_of(data, {0, 3}), 0, 0).shape, (Shape{0, 3}));
}

TEST(Tensor, ReshapeKeepsElements) {
  float data[12] = {};
  const Tensor t = view_of(data, {4, 3});
  const Tensor flat = reshaped(t, {2, 6});
  EXPECT_EQ(flat.data, data);
  EXPECT_EQ(flat.shape, (Shape{2, 6}));
  EXPECT_THROW(reshaped(t, {5, 2}), Error);
}

}  // namespace
}  // namespace braid
