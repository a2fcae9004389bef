-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)
--
-- Host: localhost    Database: s
-- ------------------------------------------------------
-- Server version	8.0.36

/*!40101 SET NAMES utf8mb4 */;
DROP TABLE IF EXISTS `a`;
CREATE TABLE `a` (`id` int);
INSERT INTO `a` VALUES (1),(2);

-- Dump completed on 2026-11-20 23:00:01
